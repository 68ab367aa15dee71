"""Settings: where they come from, how they are edited, the documented names."""
