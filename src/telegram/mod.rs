//! Talking to Telegram.
