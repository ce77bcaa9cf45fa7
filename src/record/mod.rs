//! One record per request, written also for a caller who left early.
