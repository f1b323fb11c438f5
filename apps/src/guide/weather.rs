//! How the weather is somewhere: a place is looked up by its name, and then the weather there is asked for.
//!
//! Both are asked of Open-Meteo, or of whoever else answers as it does.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::settings::Settings;

/// Where places are looked up.
pub(super) const GEOCODING: &str = "https://geocoding-api.open-meteo.com/v1/search";
/// Where the weather is asked for.
pub(super) const FORECAST: &str = "https://api.open-meteo.com/v1/forecast";

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much one of them may say.
const LONGEST: usize = 256 * 1024;

/// Who knows it.
#[derive(Debug)]
pub(super) struct Weather {
    client: reqwest::Client,
    geocoding: String,
    forecast: String,
}

#[derive(Deserialize)]
struct Places {
    #[serde(default)]
    results: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    name: String,
    #[serde(default)]
    country: Option<String>,
    latitude: f64,
    longitude: f64,
}

#[derive(Deserialize)]
struct Forecast {
    current: Current,
}

#[derive(Deserialize)]
struct Current {
    time: String,
    temperature_2m: f64,
    relative_humidity_2m: f64,
    wind_speed_10m: f64,
}

impl Weather {
    pub(super) fn new(settings: &Settings) -> Result<Weather, String> {
        let url = |name: &str, default: &str| {
            let url = settings.get(name).unwrap_or(default);
            let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            parsed.map(|_| url.to_owned()).ok_or_else(|| format!("{name} is {url:?}, which is no URL of HTTP"))
        };
        let client = reqwest::Client::builder().timeout(PATIENCE).user_agent(concat!("landbridge-apps/", env!("CARGO_PKG_VERSION")));
        Ok(Weather {
            client: client.build().map_err(|e| format!("there is no client of HTTP: {e}"))?,
            geocoding: url("GUIDE_GEOCODING_URL", GEOCODING)?,
            forecast: url("GUIDE_WEATHER_URL", FORECAST)?,
        })
    }

    /// How it is at the place of that name, in a sentence.
    pub(super) async fn at(&self, name: &str) -> Result<String, String> {
        if name.is_empty() || name.len() > 200 {
            return Err("say the name of a place, in up to 200 bytes".into());
        }
        let places: Places = self.ask(&self.geocoding, &[("name", name), ("count", "1"), ("format", "json")]).await?;
        let place = places.results.into_iter().next().ok_or_else(|| format!("nobody knows a place called {name:?}"))?;
        let (latitude, longitude) = (place.latitude.to_string(), place.longitude.to_string());
        let wanted = "temperature_2m,relative_humidity_2m,wind_speed_10m";
        let forecast: Forecast =
            self.ask(&self.forecast, &[("latitude", &latitude), ("longitude", &longitude), ("current", wanted)]).await?;
        let Current { time, temperature_2m, relative_humidity_2m, wind_speed_10m } = forecast.current;
        let country = place.country.map(|country| format!(", {country}")).unwrap_or_default();
        Ok(format!(
            "{}{country} at {time} UTC: {temperature_2m} °C, {relative_humidity_2m} % humidity, wind {wind_speed_10m} km/h",
            place.name
        ))
    }

    async fn ask<A: DeserializeOwned>(&self, url: &str, query: &[(&str, &str)]) -> Result<A, String> {
        // Not the error itself, which quotes the whole URL.
        let trouble = |e: reqwest::Error| {
            format!("{url} did not answer: {}", if e.is_timeout() { "it took too long" } else { "it cannot be reached" })
        };
        let mut response = self.client.get(url).query(query).send().await.map_err(trouble)?;
        if !response.status().is_success() {
            return Err(format!("{url} answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(trouble)? {
            body.extend_from_slice(&piece);
            if body.len() > LONGEST {
                return Err(format!("{url} said more than {LONGEST} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|_| format!("{url} answered something that is no weather"))
    }
}
