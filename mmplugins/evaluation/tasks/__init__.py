"""How well a task is done under shifts: AP and mIoU, their bounds, and where in the picture."""
