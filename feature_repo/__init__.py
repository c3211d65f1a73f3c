"""The agreement: event schema, feature definitions, what they mean, and where they are stored."""
