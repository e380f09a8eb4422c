"""What each verb does: plain functions of a configuration."""
