"""What is in prepared records: summaries of the tags, as text, JSON and one page."""
