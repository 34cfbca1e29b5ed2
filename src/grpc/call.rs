//! What every handler begins and ends with.

use tonic::{Request, Response, Status};

use crate::{
    domain::error::Error,
    grpc::{authenticated::Authenticated, status},
};

pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// The call as the gate admitted it, and its message.
///
/// # Errors
/// `INTERNAL` for a call that came past the gate.
pub(crate) fn admitted<T>(request: Request<T>) -> Result<(Authenticated, T), Error> {
    let (_, mut extensions, message) = request.into_parts();
    let call = extensions.remove::<Authenticated>();
    let call = call.ok_or_else(|| status::internal("a call came past the gate"))?;
    Ok((call, message))
}

/// The answer to a method that this version does not serve. The gate gives it already; this keeps it true.
pub(crate) fn later<T>() -> Answer<T> {
    Err(status::later().into())
}

pub(crate) fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// # Errors
/// `ARGUMENT_INVALID` if the request asks for what this version would have to ignore.
pub(crate) fn leave_empty(fields: &[(&'static str, bool)]) -> Result<(), Error> {
    match fields.iter().find(|(_, empty)| !empty) {
        None => Ok(()),
        Some((field, _)) => Err(status::unserved(field)),
    }
}
