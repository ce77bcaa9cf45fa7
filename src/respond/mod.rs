//! Makes responses: from the upstream's answer, or from a refusal.
