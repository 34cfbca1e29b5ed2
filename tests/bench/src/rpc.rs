//! What all calls have in common.

use std::time::Duration;

use tonic::Request;

/// As a holder has it: within the time of its lease.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn within_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}
