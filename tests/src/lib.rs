//! Whole-system tests and the demonstration: namespaces with real network stacks.
