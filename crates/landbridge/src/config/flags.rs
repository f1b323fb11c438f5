//! What the command line says of servers elsewhere: `--header` and `--transport`.
//!
//! ```text
//!   Authorization: Bearer ${TOKEN}         for the only server with a URL
//!   far=Authorization: Bearer ${TOKEN}     for the server `far`
//! ```
//!
//! The name of a header holds no `=` (RFC 9110, 5.6.2), so neither can be mistaken for the other.

use clap::ValueEnum as _;

use crate::config::suggest::did_you_mean;
use crate::config::{Config, ServerConfig};
use crate::plan::Transport;

impl Config {
    /// A header for a server elsewhere. What stands behind its colon may be a secret, and is in no fault.
    pub fn add_header(&mut self, written: &str) -> Result<(), String> {
        let how = "--header: write 'NAME: VALUE', such as 'Authorization: Bearer ${TOKEN}', or 'SERVER=NAME: VALUE'";
        let (head, value) = written.split_once(':').ok_or(how)?;
        let (name, server) = match head.split_once('=') {
            Some((server, name)) => (name.trim(), self.elsewhere(server.trim()).map_err(|why| format!("--header: {why}"))?),
            None => (head.trim(), self.only_elsewhere(head.trim())?),
        };
        // It overrules one of the file, however that is spelt.
        server.headers.retain(|known, _| !known.eq_ignore_ascii_case(name));
        server.headers.insert(name.into(), value.trim().into());
        Ok(())
    }

    /// How one server elsewhere is reached, or all of them.
    pub fn set_transport(&mut self, written: &str) -> Result<(), String> {
        let (server, how) = written.split_once('=').map_or((None, written), |(server, how)| (Some(server.trim()), how));
        let wrong = |why: String| format!("--transport {written}: {why}");
        let transport = Transport::from_str(&how.trim().replace('_', "-"), true).map_err(|_| {
            let known = ["auto", "http", "sse"];
            wrong(format!("it can be {}{}", known.join(", "), did_you_mean(how, known)))
        })?;
        match server {
            Some(server) => self.elsewhere(server).map_err(wrong)?.transport = Some(transport),
            None if self.all_elsewhere().next().is_none() => return Err(wrong("there is no server with a URL".into())),
            None => self.all_elsewhere().for_each(|(_, server)| server.transport = Some(transport)),
        }
        Ok(())
    }

    fn all_elsewhere(&mut self) -> impl Iterator<Item = (&String, &mut ServerConfig)> {
        self.servers.iter_mut().filter(|(_, server)| server.url.is_some() && !server.disabled)
    }

    /// The server of that name.
    fn elsewhere(&mut self, name: &str) -> Result<&mut ServerConfig, String> {
        let meant = did_you_mean(name, self.servers.keys().map(String::as_str));
        match self.servers.get_mut(name) {
            None => Err(format!("there is no server `{name}`{meant}")),
            Some(server) if server.url.is_none() => Err(format!("the server `{name}` has no URL")),
            Some(server) => Ok(server),
        }
    }

    /// The one that a header without the name of a server is for.
    fn only_elsewhere(&mut self, header: &str) -> Result<&mut ServerConfig, String> {
        let mut all = self.all_elsewhere();
        match (all.next(), all.next()) {
            (Some((_, only)), None) => Ok(only),
            (None, _) => Err(format!("--header {header}: there is no server with a URL")),
            (Some((first, _)), Some(_)) => Err(format!(
                "--header {header}: there are several servers with a URL; write for which it is, such as --header '{first}={header}: VALUE'"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[servers.far]\nurl = \"https://f\"\nheaders = { authorization = \"old\" }\n[servers.cmd]\ncommand = \"x\"\n";
        Config::parse("f", text.into()).unwrap()
    }

    #[test]
    fn a_header_is_for_the_server_it_names_or_the_only_one() {
        let mut config = config();
        for written in ["X-A: b=c: d", "far=Authorization:Bearer ${T}", " far = X-B : "] {
            config.add_header(written).unwrap();
        }
        let headers: Vec<(&str, &str)> = config.servers["far"].headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(headers, [("Authorization", "Bearer ${T}"), ("X-A", "b=c: d"), ("X-B", "")]);
    }

    #[test]
    fn faults_say_what_to_do_and_no_secret() {
        let mut config = config();
        config.set_target("near", "https://n").unwrap();
        for (written, said) in [
            ("sesame", "write 'NAME: VALUE'"),
            ("X: sesame", "--header X: there are several servers with a URL; write for which it is, such as --header 'far=X: VALUE'"),
            ("fr=X: sesame", "--header: there is no server `fr`; did you mean `far`?"),
            ("cmd=X: sesame", "--header: the server `cmd` has no URL"),
        ] {
            let told = config.add_header(written).unwrap_err();
            assert!(told.contains(said) && !told.contains("sesame"), "{told}");
        }
        let none = Config::default().add_header("X: y").unwrap_err();
        assert_eq!(none, "--header X: there is no server with a URL");
    }

    #[test]
    fn a_transport_is_for_one_server_or_for_all() {
        let mut config = config();
        config.set_target("near", "https://n").unwrap();
        config.set_transport("streamable_http").unwrap();
        config.set_transport("near=sse").unwrap();
        let transports: Vec<_> = config.servers.values().map(|server| server.transport).collect();
        assert_eq!(transports, [None, Some(Transport::Http), Some(Transport::Sse)]);
        for (written, said) in [
            ("ssee", "--transport ssee: it can be auto, http, sse; did you mean `sse`?"),
            ("cmd=sse", "--transport cmd=sse: the server `cmd` has no URL"),
            ("nea=sse", "--transport nea=sse: there is no server `nea`; did you mean `near`?"),
        ] {
            assert_eq!(config.set_transport(written).unwrap_err(), said);
        }
        assert!(Config::default().set_transport("sse").unwrap_err().contains("no server with a URL"));
    }
}
