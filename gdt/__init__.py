"""The paper's objects: factors and plan, contrast and weight matrices, the loss. Needs torch only."""
