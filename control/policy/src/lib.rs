//! Policy documents: validation, compilation, the linear oracle, explain.
