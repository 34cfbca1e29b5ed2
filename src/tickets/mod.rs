//! Logins under way: in Redis, or in this process.
