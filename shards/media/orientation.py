"""How frames are turned upright: the signs of a display matrix, and EXIF's eight orientations."""

Turn = tuple[int, int, int, int]  # signs (a, b, c, d) of a display matrix
UPRIGHT: Turn = (1, 0, 0, 1)
#: EXIF's orientation → the turn that makes the frame upright.
TURNS: dict[int, Turn] = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
