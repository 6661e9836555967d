"""The run: which task goes next, on which replica, and what happens when one dies."""
