"""What people look at: pictures, pages and progress bars."""
