//! Support: redis.
