//! A stream that keeps a lease: each message of the holder renews it, and an eviction is told without being asked.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};
use usm_client::v1::{self, hold_lease_request::Step as Said, hold_lease_response::Step};
use usm_lease_proof::protocol::{LeaseId, Renew, Subject};

use crate::replica::{Replica, lease, lease_id, not_held};

/// How often the replica looks whether the holder is to stop.
const WATCH: Duration = Duration::from_secs(1);

type Say = mpsc::Sender<Result<v1::HoldLeaseResponse, Status>>;

/// Until the holder hangs up or the lease is over. A stream that breaks ends nothing.
pub(crate) async fn hold(
    replica: Replica,
    subject: Subject,
    mut holder: Streaming<v1::HoldLeaseRequest>,
    say: Say,
) {
    let mut held = None;
    loop {
        let answer = match timeout(WATCH, holder.message()).await {
            Err(_) => match held {
                Some(id) if is_evicted(&replica, id) => Ok(evicted()),
                Some(_) | None => continue,
            },
            Ok(Ok(Some(request))) => match request.step {
                Some(Said::Attach(attach)) => match lease_id(&attach.lease_id) {
                    Ok(id) => {
                        held = Some((id, attach.epoch));
                        replica.world.note(format!("a stream keeps #{}", attach.epoch));
                        renew(&replica, subject, (id, attach.epoch), 0).await
                    }
                    Err(status) => Err(status),
                },
                Some(Said::Beat(beat)) => match held {
                    Some(id) => renew(&replica, subject, id, beat.beat).await,
                    None => Err(not_held()),
                },
                Some(Said::Acquire(_) | Said::Release(_)) | None => {
                    Err(Status::unimplemented("the simulation attaches and beats"))
                }
            },
            Ok(Ok(None) | Err(_)) => return,
        };
        let goes_on = matches!(&answer, Ok(answer) if matches!(answer.step, Some(Step::Renewed(_))));
        if say.send(answer).await.is_err() || !goes_on {
            return;
        }
    }
}

fn is_evicted(replica: &Replica, (id, epoch): (LeaseId, i64)) -> bool {
    let inner = replica.world.lock();
    let session = &inner.session;
    session.epoch == epoch && session.last.as_ref().is_some_and(|last| last.lease_id == id && last.evicted)
}

async fn renew(
    replica: &Replica,
    subject: Subject,
    (id, epoch): (LeaseId, i64),
    beat: i64,
) -> Result<v1::HoldLeaseResponse, Status> {
    match replica.statement(|inner| inner.session.renew(id, epoch, subject, inner.now)).await? {
        Renew::Renewed(granted) => Ok(v1::HoldLeaseResponse {
            lease: Some(lease(granted, "")),
            step: Some(Step::Renewed(v1::Renewed { beat })),
        }),
        Renew::NotHeld | Renew::NotLendable => Ok(lost(v1::LeaseLossReason::Expired)),
        Renew::EpochStale { .. } => Ok(lost(v1::LeaseLossReason::EpochStale)),
        Renew::Evicted => Ok(evicted()),
    }
}

fn lost(reason: v1::LeaseLossReason) -> v1::HoldLeaseResponse {
    v1::HoldLeaseResponse { lease: None, step: Some(Step::Lost(v1::Lost { reason: reason.into() })) }
}

fn evicted() -> v1::HoldLeaseResponse {
    let draining = v1::Draining { reason: v1::LeaseDrainReason::Evicted.into(), deadline: None };
    v1::HoldLeaseResponse { lease: None, step: Some(Step::Draining(draining)) }
}
