"""The story of one step call, and who performs it."""
