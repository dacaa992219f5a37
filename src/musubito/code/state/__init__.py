"""Tell state that a step's own runs change from what others change."""
