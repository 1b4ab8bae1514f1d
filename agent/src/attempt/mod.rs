//! One job from Assign to Finished.
