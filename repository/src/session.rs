//! A writer's announced run.
