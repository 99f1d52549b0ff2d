"""The pages of the report, as HTML."""
