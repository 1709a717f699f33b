"""Reports as they come in, are kept, and go out to their patients: the words that feeds, store and channels share."""
