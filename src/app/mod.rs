//! Use cases: what callers ask for, decided by the domain and carried out by the adapters.
