//! Publication of a snapshot by pointer swap with quiescent states.
