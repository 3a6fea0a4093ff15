"""Networks: built, changed, exported, and the evidence maps that they give."""
