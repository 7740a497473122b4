//! Service instances: one small supervisor process each, its state on disk, logs, restarts and stop.
