//! Where calls wait for clients that cannot be asked live.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::bridge::ask;
use landbridge_proto::bridge::parked::{self, Limits, Parked, Question, Responses, Retry};
use landbridge_proto::bridge::{self, rounds};
use landbridge_proto::call::{Call, Outcome, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::sealed::Keys;

use crate::backend::each::User;
use crate::backend::lock;
use crate::backend::replies::Replies;
use crate::backend::tasks::Kept;
use crate::rates::too_many_wait;
use crate::system::random;

/// The calls that wait, and the keys to what their clients hold.
pub struct Lot {
    /// What seals everything that clients hold of ours.
    pub keys: Keys,
    /// What is kept of tasks between the requests about them.
    pub tasks: Kept,
    /// Of each kind, so many are kept.
    pub limit: usize,
    /// For so long.
    pub keep: Duration,
    parked: Mutex<Parked<Waiting>>,
}

/// What waits.
pub enum Waiting {
    /// A call under way, for its answers.
    Call(Box<Replies>),
    /// Nothing: the call is sent anew, to this server, when its URLs have been visited.
    Again(Arc<Server>),
    /// The same, when its user has logged in at this server.
    Login(Arc<Server>, Arc<User>),
}

/// What a retry comes to.
pub enum Retried {
    /// The call goes on as this one.
    Call(Box<Replies>),
    /// It is to be sent anew.
    Again,
    /// The client declined, so there is no point in sending it: how it ends.
    Declined(Outcome),
    /// Something is missing: it is asked for again.
    AskAgain(Bytes),
}

impl std::fmt::Debug for Lot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lot")
    }
}

impl Lot {
    /// Nothing waits yet.
    pub fn new(limits: Limits) -> Result<Lot, String> {
        let key = random()?;
        let parked = Mutex::new(Parked::new(limits, Instant::now()));
        Ok(Lot { keys: Keys::new(key), tasks: Kept::default(), limit: limits.calls, keep: limits.keep, parked })
    }

    /// Puts a call aside, and gives what its client is told: an InputRequiredResult.
    pub fn park(&self, waiting: Waiting, call: &Call, server: &Arc<Server>, name: &str, questions: Vec<Question>) -> Result<Bytes, Fault> {
        let id = random().map_err(|e| Fault::gateway(Kind::Backend).tell("no randomness for a state").because(e))?;
        let id = u128::from_le_bytes(id);
        let digest = parked::digest(call);
        // What could not be parked, or gives way, is dropped behind the lock: it tells its server.
        let (parked, _gone) = {
            let (mut parked, now) = (lock(&self.parked), Instant::now());
            // What holds nothing can be had again.
            match parked.make_room(&call.client.principal, |waiting| !matches!(waiting, Waiting::Call(_)), now) {
                Ok(gone) => (parked.park(&self.keys, id, waiting, (call, digest, server, name), questions, now), gone),
                Err(full) => (Err((Box::new(waiting), too_many_wait(full))), None),
            }
        };
        parked.map_err(|(_, fault)| fault)
    }

    /// A call comes with a `requestState`.
    pub fn retry(&self, call: Call, name: &str) -> Result<Retried, Fault> {
        let is_open = |waiting: &Waiting, ticket| match waiting {
            Waiting::Call(replies) => replies.is_open(ticket),
            Waiting::Again(_) => true,
            // Who has come needs no more asking, whatever the client says of it.
            Waiting::Login(_, user) => user.pass().is_wanting() || !user.pass().is_held(),
        };
        // Arguments may be long: they are read before anybody has to wait for it.
        let (digest, responses) = (parked::digest(&call), Responses::read(&call)?);
        let retry = lock(&self.parked).retry(&self.keys, (&call, digest, &responses, name), is_open, Instant::now())?;
        Ok(match retry {
            Retry::AskAgain(result) => Retried::AskAgain(result),
            Retry::Resumed(Waiting::Again(_) | Waiting::Login(..), answers)
                if answers.iter().all(|(_, answer)| ask::is_accepted(answer)) =>
            {
                Retried::Again
            }
            Retry::Resumed(Waiting::Again(server) | Waiting::Login(server, _), _) => {
                let told = "the user did not open the page that the server needs to be visited first";
                let failed = rounds::failed(&call.method, Fault::client(Kind::Untranslatable).tell(told));
                Retried::Declined(bridge::outcome(&call.client, &server, &call.method, failed))
            }
            Retry::Resumed(Waiting::Call(mut replies), answers) => {
                replies.resume(call, &answers);
                Retried::Call(replies)
            }
        })
    }

    /// Whether the `requestState` of a call is one of ours.
    pub fn knows(&self, call: &Call, name: &str) -> bool {
        parked::is_ours(&self.keys, call, name)
    }

    /// Ends the calls whose clients did not come back. Called every second.
    pub fn housekeep(&self, now: Instant) {
        self.housekeep_tasks(now);
        let over = lock(&self.parked).handle_timeout(now);
        for (waiting, open) in over {
            if let Waiting::Call(replies) = waiting {
                replies.give_up(&open);
            }
        }
    }

    /// Ends all of them.
    pub fn close(&self) {
        let all = lock(&self.parked).drain();
        drop(all);
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        lock(&self.parked).len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
