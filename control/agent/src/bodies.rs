//! Bodies of requests: how much is read of them, for how long, and what they may take of
//! memory until they are answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// The largest document.
pub const MAX_DOCUMENT: usize = 64 << 20;

/// The largest question, and the largest body that counts as small.
pub const MAX_QUESTION: usize = 64 << 10;

/// What all documents and requests that are held at a time may take.
const ROOM: usize = 4 * MAX_DOCUMENT;

/// What is kept of that for small ones, so that they do not wait behind large ones.
const ROOM_OF_SMALL: usize = 16 << 20;

/// Room is given away in pieces of so many bytes.
const PIECE: usize = 4 << 10;

/// How long a body may take to arrive, and to wait for a place.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Room that is given back when this is dropped.
pub type Place = OwnedSemaphorePermit;

/// Room for bodies.
#[derive(Clone)]
pub struct Room {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Room {
    /// All of it is free.
    pub fn new() -> Room {
        let pieces = |bytes: usize| Arc::new(Semaphore::new(bytes / PIECE));
        Room { small: pieces(ROOM_OF_SMALL), large: pieces(ROOM - ROOM_OF_SMALL) }
    }

    /// Waits for room for so many bytes: in the order in which it is asked for, but apart for
    /// small bodies and for others.
    pub async fn place(&self, bytes: usize) -> Result<Place, ApiError> {
        let room = if bytes <= MAX_QUESTION { &self.small } else { &self.large };
        // No more than the largest, so that it fits.
        let pieces = bytes.min(MAX_DOCUMENT).div_ceil(PIECE).max(1) as u32;
        room.clone().acquire_many_owned(pieces).await.map_err(ApiError::internal)
    }

    /// Reads a document or a request, in a place of its own: of the size that is said, or of the
    /// largest if none is.
    ///
    /// # Errors
    /// It is larger than any may be, or does not arrive in time.
    pub async fn read(&self, body: Body) -> Result<(Bytes, Place), ApiError> {
        in_time(async {
            fits(&body, MAX_DOCUMENT)?;
            let bytes = body.size_hint().upper().map_or(MAX_DOCUMENT, |bytes| bytes as usize);
            let place = self.place(bytes).await?;
            let bytes = read(body, MAX_DOCUMENT).await?;
            // A small one is a part of what its connection has read, which would be held with it.
            let bytes = if bytes.len() <= MAX_QUESTION { Bytes::copy_from_slice(&bytes) } else { bytes };
            Ok((bytes, place))
        })
        .await
    }
}

/// What does not take too long.
pub async fn in_time<T>(read: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(TIMEOUT, read).await.unwrap_or_else(|_| {
        let message = "the body did not arrive in time";
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "RequestExpired", message))
    })
}

/// A body of bounded size. One that says it is larger is not read at all.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    fits(&body, limit)?;
    to_bytes(body, limit).await.map_err(|error| match is_too_large(&error) {
        true => too_large(limit),
        false => {
            let message = format!("the body cannot be read: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "MalformedDocument", message)
        }
    })
}

fn fits(body: &Body, limit: usize) -> Result<(), ApiError> {
    if body.size_hint().lower() > limit as u64 { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("{limit} bytes are the most that is taken here");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestLimitExceeded", message)
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    /// A place, if there is one now.
    fn take(room: &Room, bytes: usize) -> Option<Place> {
        match std::pin::pin!(room.place(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn bodies_never_take_more_than_the_room_that_there_is() {
        for bytes in [0, 1, PIECE, PIECE + 1, 700, MAX_QUESTION, MAX_QUESTION + 1, 5 << 20, MAX_DOCUMENT] {
            let room = Room::new();
            let mut places = vec![];
            while let Some(place) = take(&room, bytes) {
                places.push(place);
            }
            let most = if bytes <= MAX_QUESTION { ROOM_OF_SMALL } else { ROOM - ROOM_OF_SMALL };
            assert!(
                places.len() * bytes <= most && (places.len() + 1) * bytes.max(PIECE) > most / 2,
                "{bytes}"
            );
            places.pop();
            assert!(take(&room, bytes).is_some(), "{bytes}: it comes back");
        }
    }

    #[test]
    fn small_bodies_do_not_wait_behind_large_ones() {
        let room = Room::new();
        let mut large = vec![];
        while let Some(place) = take(&room, MAX_DOCUMENT) {
            large.push(place);
        }
        // One that says nothing of its size, or that it is larger than any, takes no more than that.
        assert_eq!((large.len(), take(&room, usize::MAX).is_none()), (3, true));
        let small: Vec<_> = (0..256).map(|_| take(&room, MAX_QUESTION).expect("room for hundreds")).collect();
        assert!(take(&room, 1).is_none(), "and no more");
        drop(small);
        assert!(take(&room, 1).is_some());
    }
}
