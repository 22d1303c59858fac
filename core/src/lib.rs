//! The vocabulary and the seams of Hydrant.
