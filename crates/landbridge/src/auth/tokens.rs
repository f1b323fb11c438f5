//! What our authorization server keeps, as JSON in the store, and what its tokens say.
//!
//! Everything of an agreement hangs on one record, its grant: a code or token counts only while that is there,
//! so to withdraw it is to take that one record away. What is left of it is swept when its time is over.

use serde::{Deserialize, Serialize};

use landbridge_proto::call::{self, Principal};
use landbridge_proto::oauth::admission::Identity as Someone;
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::{Code, Grant};
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::token::{Access, CodeRecord, Refresh, Write};

use crate::auth::{Identity, Opens};
use crate::authority::LOCAL;
use crate::store::{Kind, Record, Store, Trouble};

/// Longest token of ours that is signed, in bytes: what a header may have.
const MAX_TOKEN: usize = 16 * 1024;

/// Whether `text` looks like a token of ours: one that says nothing, or one that is signed.
pub fn is_one(text: &str) -> bool {
    Hash::read(text).is_some() || text.len() <= MAX_TOKEN && text.split('.').count() == 3
}

/// Finds the access token of that hash, if whoever agreed to it is still let in.
pub async fn find(store: &dyn Store, hash: &Hash, now_s: u64, lets_in: impl Fn(&Person) -> bool) -> Result<Option<Identity>, Trouble> {
    let Some(access) = access(store, hash, now_s).await? else { return Ok(None) };
    let agreed = agreed(store, &access.grant.id, now_s).await?;
    let Some(agreed) = agreed.filter(|agreed| agreed.person.as_ref().is_none_or(&lets_in)) else { return Ok(None) };
    let person = agreed.person.map(Person::told).unwrap_or_default();
    Ok(Some(Identity {
        principal: Principal::of(&access.grant.principal, person),
        name: agreed.name,
        via: access.grant.client_id,
        scopes: Some(access.grant.scopes),
        servers: None,
        opens: Opens::Below(access.grant.resource),
        expires_s: Some(access.expires_s),
        grant: Some(access.grant.id),
    }))
}

/// The record of an access token.
pub async fn access(store: &dyn Store, hash: &Hash, now_s: u64) -> Result<Option<Access>, Trouble> {
    let Some(record) = store.get(Kind::Access, &hash.to_string(), now_s).await? else { return Ok(None) };
    let written: Written = read("access token", &record)?;
    Ok(Some(Access { grant: written.grant()?, expires_s: record.expires_s.unwrap_or_default() }))
}

/// Somebody, as they had shown who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who says so.
    pub issuer: String,
    /// Their name to the issuer.
    pub subject: String,
    login: Option<String>,
    name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hosted_domain: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    organisations: Vec<String>,
}

impl From<&Someone> for Person {
    fn from(identity: &Someone) -> Person {
        let Someone { issuer, subject, login, name, email, email_verified, hosted_domain, organisations } = identity.clone();
        Person { issuer, subject, login, name, email, email_verified, hosted_domain, organisations }
    }
}

impl Person {
    /// As a server gets to know them.
    fn told(self) -> call::Person {
        let Person { issuer, subject, login, name, email, email_verified, .. } = self;
        let issuer = if issuer == LOCAL { "local".into() } else { issuer };
        call::Person { issuer, subject, login, name, email: email.filter(|_| email_verified), tenant: None }
    }

    /// As an issuer knows them.
    pub fn identity(self) -> Someone {
        let Person { issuer, subject, login, name, email, email_verified, hosted_domain, organisations } = self;
        Someone { issuer, subject, login, name, email, email_verified, hosted_domain, organisations }
    }
}

/// What a user has agreed to, for as long as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Who.
    pub principal: String,
    /// What people call them.
    pub name: String,
    /// What they had shown of themselves: those who are let in may become others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// To whom.
    pub client_id: String,
    /// What they called themselves.
    pub client_name: String,
    /// How much.
    pub scopes: Vec<String>,
    /// For what.
    pub resource: String,
    /// When, in seconds since 1970.
    pub since_s: u64,
}

impl Agreed {
    /// When it ends, in seconds since 1970, where such hold for so many.
    pub fn ends_s(&self, holds_s: u64) -> u64 {
        self.since_s.saturating_add(holds_s)
    }
}

/// The agreement of that id, if it holds.
pub async fn agreed(store: &dyn Store, id: &str, now_s: u64) -> Result<Option<Agreed>, Trouble> {
    let record = store.get(Kind::Grant, id, now_s).await?;
    record.map(|record| read("grant", &record)).transpose()
}

/// Keeps an agreement, for so many seconds.
pub async fn agree(store: &dyn Store, id: &str, agreed: &Agreed, holds_s: u64) -> Result<(), Trouble> {
    let expires_s = Some(agreed.ends_s(holds_s));
    store.put(Kind::Grant, id, Record { value: write(agreed)?, expires_s }).await
}

/// Does what a decision wants done, in its order.
pub async fn carry_out(store: &dyn Store, writes: Vec<Write>, now_s: u64, mut withdrawn: impl FnMut(&str)) -> Result<(), Trouble> {
    for action in writes {
        match action {
            Write::Code(key, CodeRecord::Fresh(code)) => {
                let written = WrittenCode {
                    grant: Some(Written::of(&code.grant)),
                    redirect_uri: code.redirect_uri,
                    challenge: code.challenge.to_string(),
                    spent: None,
                };
                store.put(Kind::Code, &key.to_string(), Record { value: write(&written)?, expires_s: Some(code.expires_s) }).await?;
            }
            Write::Code(key, CodeRecord::Spent { grant_id, client_id, expires_s }) => {
                let written = WrittenCode { spent: Some(Spent { grant_id, client_id }), ..WrittenCode::default() };
                store.put(Kind::Code, &key.to_string(), Record { value: write(&written)?, expires_s: Some(expires_s) }).await?;
            }
            Write::Access(key, access) => {
                let record = Record { value: write(&Written::of(&access.grant))?, expires_s: Some(access.expires_s) };
                store.put(Kind::Access, &key.to_string(), record).await?;
            }
            Write::Refresh(key, refresh) => {
                let written = WrittenRefresh {
                    grant: Written::of(&refresh.grant),
                    salt: Hash::from_bytes(refresh.salt).to_string(),
                    used_s: refresh.used_s,
                };
                store.put(Kind::Refresh, &key.to_string(), Record { value: write(&written)?, expires_s: Some(refresh.expires_s) }).await?;
            }
            Write::Withdraw(id) => {
                store.take(Kind::Grant, &id, now_s).await?;
                withdrawn(&id);
            }
        }
    }
    Ok(())
}

/// Takes the record of a code.
pub async fn take_code(store: &dyn Store, key: &Hash, now_s: u64) -> Result<Option<CodeRecord>, Trouble> {
    store.take(Kind::Code, &key.to_string(), now_s).await?.map(|record| code_of(&record)).transpose()
}

/// The record of a code.
pub async fn code(store: &dyn Store, key: &Hash, now_s: u64) -> Result<Option<CodeRecord>, Trouble> {
    store.get(Kind::Code, &key.to_string(), now_s).await?.map(|record| code_of(&record)).transpose()
}

fn code_of(record: &Record) -> Result<CodeRecord, Trouble> {
    let expires_s = record.expires_s.unwrap_or_default();
    let written: WrittenCode = read("code", record)?;
    if let Some(Spent { grant_id, client_id }) = written.spent {
        return Ok(CodeRecord::Spent { grant_id, client_id, expires_s });
    }
    let (Some(grant), Some(challenge)) = (written.grant, Hash::read(&written.challenge)) else { return Err(damaged("code")) };
    Ok(CodeRecord::Fresh(Code { grant: grant.grant()?, redirect_uri: written.redirect_uri, challenge, expires_s }))
}

/// Takes the record of a refresh token.
pub async fn take_refresh(store: &dyn Store, key: &Hash, now_s: u64) -> Result<Option<Refresh>, Trouble> {
    store.take(Kind::Refresh, &key.to_string(), now_s).await?.map(|record| refresh_of(&record)).transpose()
}

/// The record of a refresh token.
pub async fn refresh(store: &dyn Store, key: &Hash, now_s: u64) -> Result<Option<Refresh>, Trouble> {
    store.get(Kind::Refresh, &key.to_string(), now_s).await?.map(|record| refresh_of(&record)).transpose()
}

fn refresh_of(record: &Record) -> Result<Refresh, Trouble> {
    let written: WrittenRefresh = read("refresh token", record)?;
    let salt = Hash::read(&written.salt).ok_or_else(|| damaged("refresh token"))?;
    Ok(Refresh {
        grant: written.grant.grant()?,
        expires_s: record.expires_s.unwrap_or_default(),
        salt: *salt.as_bytes(),
        used_s: written.used_s,
    })
}

#[derive(Serialize, Deserialize)]
struct Written {
    grant: String,
    client: String,
    principal: String,
    resource: String,
    scopes: Vec<String>,
}

impl Written {
    fn of(grant: &Grant) -> Written {
        Written {
            grant: grant.id.clone(),
            client: grant.client_id.clone(),
            principal: grant.principal.clone(),
            resource: grant.resource.to_string(),
            scopes: grant.scopes.clone(),
        }
    }

    fn grant(self) -> Result<Grant, Trouble> {
        let resource = Resource::read(&self.resource).map_err(|_| damaged("grant"))?;
        Ok(Grant { id: self.grant, client_id: self.client, principal: self.principal, resource, scopes: self.scopes })
    }
}

#[derive(Default, Serialize, Deserialize)]
struct WrittenCode {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<Written>,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    challenge: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent: Option<Spent>,
}

#[derive(Serialize, Deserialize)]
struct Spent {
    grant_id: String,
    client_id: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenRefresh {
    #[serde(flatten)]
    grant: Written,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_s: Option<u64>,
}

pub(crate) fn read<'r, T: Deserialize<'r>>(what: &str, record: &'r Record) -> Result<T, Trouble> {
    serde_json::from_str(&record.value).map_err(|e| Trouble::Unusable(format!("a {what} in the store cannot be read: {e}")))
}

pub(crate) fn write(value: &impl Serialize) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|e| Trouble::Unusable(e.to_string()))
}

fn damaged(what: &str) -> Trouble {
    Trouble::Unusable(format!("a {what} in the store cannot be read"))
}
