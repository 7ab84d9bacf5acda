//! Objects of a store that speaks S3, as files: CSV and Parquet, read by the engine in ranges.
//!
//! ```text
//! list ─▶ Snapshot { objects with their tags } ─▶ the engine's readers ─▶ GET with If-Match, range by range
//! ```
//!
//! Invariants
//! - One state: an object is read as it was listed, or the scan fails. Every request names the tag, and every answer must bear it.
//! - Nothing is written: the store that the engine sees has no way to.
//!
//! The engine has an older `object_store`, which signs with ring; requests are made by the one that signs with aws-lc-rs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig};

use super::files::{csv_header, escaped, read, wildcard};
use super::settings::{Host, Settings};
use super::{Declared, Ending, Opened, SourceError, State, columns, session};
use crate::config::Format;

/// A store, and where in it.
#[derive(Debug, Clone)]
pub struct Store {
    /// The connection's name in the configuration.
    pub name: String,
    /// The endpoint; the user is the key's identifier, the password its secret, the database the bucket.
    pub settings: Settings,
    /// The region that requests are signed for.
    pub region: String,
}

/// An object, a folder of objects (a key that ends in `/`: its objects of the format, not its folders), or a pattern whose last part
/// holds `*` or `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// The key.
    pub key: String,
    /// How they are written.
    pub format: Format,
}

/// How long looking at the objects may take, well within the ten seconds in which a gateway wants an order answered.
const LOOK: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(4);
/// How long a store may say nothing within an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// The most objects of a dataset.
const MOST: usize = 10_000;
/// A CSV's header mostly lies within this many bytes, and always within so many.
const HEADER: [u64; 2] = [16 << 10, 1 << 20];
/// Headers that are read at a time.
const AT_ONCE: usize = 16;
/// What the engine calls the store.
const ADDRESS: &str = "s3://store/";

impl Store {
    /// The objects as they are now. CSV columns have the types that `declared` gives.
    pub(super) async fn open(
        &self,
        objects: &Objects,
        declared: Declared<'_>,
        partitions: usize,
    ) -> std::result::Result<Opened, SourceError> {
        let look = async {
            let snapshot = Snapshot::of(self, objects).await?;
            let header = match objects.format {
                Format::Parquet => Vec::new(),
                Format::Csv => snapshot.header().await?,
            };
            Ok::<_, SourceError>((snapshot, header))
        };
        let late = |_| SourceError::Database { connection: self.name.clone(), cause: "the store did not answer in time".into() };
        let (snapshot, header) = tokio::time::timeout(LOOK, look).await.map_err(late)??;
        let freshness = snapshot.objects.values().map(|object| object.last_modified.timestamp()).max().unwrap_or(0);
        let urls: Vec<String> = snapshot.objects.keys().map(|key| format!("{ADDRESS}{}", escaped(key.as_ref().as_bytes()))).collect();
        let context = session(partitions)?;
        let address = reqwest::Url::parse(ADDRESS).map_err(|_| snapshot.failed("the store has no address"))?;
        context.register_object_store(&address, Arc::new(snapshot));
        let frame = read(&context, urls, objects.format, header, declared).await?;
        let ending = Ending::default();
        // What is not read as it was listed fails.
        ending.whole();
        Ok(Opened { shape: columns(&frame).into(), freshness, state: State::Snapshot(ending), frame, first: None })
    }
}

/// The objects of a dataset as they were listed, by key.
#[derive(Debug)]
struct Snapshot {
    connection: String,
    store: Arc<AmazonS3>,
    objects: BTreeMap<Path, ObjectMeta>,
}

impl Snapshot {
    async fn of(store: &Store, objects: &Objects) -> std::result::Result<Self, SourceError> {
        let client = client(store).map_err(|cause| SourceError::Database { connection: store.name.clone(), cause })?;
        let mut snapshot = Self { connection: store.name.clone(), store: Arc::new(client), objects: BTreeMap::new() };
        for listed in snapshot.list_now(objects).await? {
            let key = Path::parse(listed.location.as_ref()).map_err(|_| snapshot.failed("an object has a key that cannot be read"))?;
            let tag = listed.e_tag.as_deref().map(tag).ok_or_else(|| snapshot.failed("the store gives its objects no tags (ETag)"))?;
            let (last_modified, size, version) = (listed.last_modified, listed.size, listed.version);
            snapshot.objects.insert(key.clone(), ObjectMeta { location: key, last_modified, size, e_tag: Some(tag), version });
        }
        if snapshot.objects.is_empty() { Err(snapshot.failed("there is no such object")) } else { Ok(snapshot) }
    }

    async fn list_now(&self, objects: &Objects) -> std::result::Result<Vec<object_store::ObjectMeta>, SourceError> {
        let (folder, last) = objects.key.rsplit_once('/').unwrap_or(("", &objects.key));
        let unreadable = |_| self.failed("the key of `source` cannot be read");
        let pattern = match (last, objects.format) {
            ("", Format::Parquet) => "*.parquet",
            ("", Format::Csv) => "*.csv",
            (pattern, _) if pattern.contains(['*', '?']) => pattern,
            _ => {
                let key = object_store::path::Path::parse(&objects.key).map_err(unreadable)?;
                return Ok(vec![self.store.head(&key).await.map_err(|e| self.refused(&e))?]);
            }
        };
        let folder = object_store::path::Path::parse(folder).map_err(unreadable)?;
        let prefix = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
        let mut listed = self.store.list_with_delimiter(prefix).await.map_err(|e| self.refused(&e))?.objects;
        listed.retain(|object| {
            let name = object.location.filename().unwrap_or_default();
            !name.starts_with('.') && wildcard(pattern.as_bytes(), name.as_bytes())
        });
        if listed.len() > MOST {
            return Err(self.failed(&format!("more than {MOST} objects belong to one dataset")));
        }
        Ok(listed)
    }

    /// The header that all objects have.
    async fn header(&self) -> std::result::Result<Vec<String>, SourceError> {
        let reads: Vec<_> = self.objects.values().map(|object| self.header_of(object).boxed()).collect();
        let mut headers = stream::iter(reads).buffered(AT_ONCE);
        let mut header: Option<Vec<String>> = None;
        while let Some(found) = headers.try_next().await? {
            if header.get_or_insert_with(|| found.clone()) != &found {
                return Err(self.failed("an object has another header row than the dataset's first one"));
            }
        }
        Ok(header.unwrap_or_default())
    }

    async fn header_of(&self, object: &ObjectMeta) -> std::result::Result<Vec<String>, SourceError> {
        for end in HEADER.map(|most| object.size.min(most)) {
            let begin = match end {
                0 => bytes::Bytes::new(),
                end => self.ranged(&object.location, Some(0..end)).await?.bytes().await.map_err(|e| self.refused(&e))?,
            };
            if end == object.size || begin.contains(&b'\n') {
                return csv_header(Cursor::new(begin));
            }
        }
        Err(self.failed("an object has no header row within its first MiB"))
    }

    /// A part of an object, as it was listed.
    async fn ranged(&self, key: &Path, range: Option<std::ops::Range<u64>>) -> std::result::Result<object_store::GetResult, SourceError> {
        let object = self.objects.get(key).ok_or_else(|| self.failed("an object was asked for that is not part of the dataset"))?;
        let location = object_store::path::Path::parse(key.as_ref()).map_err(|_| self.failed("an object's key cannot be read"))?;
        // Stores differ in how they answer for a range that is the whole.
        let range = range.filter(|range| *range != (0..object.size));
        let options = object_store::GetOptions { if_match: object.e_tag.clone(), range: range.map(Into::into), ..Default::default() };
        let answer = self.store.get_opts(&location, options).await.map_err(|e| self.refused(&e))?;
        if answer.meta.e_tag.as_deref().map(tag) == object.e_tag && answer.meta.size == object.size {
            Ok(answer)
        } else {
            Err(self.failed(CHANGED))
        }
    }

    fn failed(&self, cause: &str) -> SourceError {
        SourceError::Database { connection: self.connection.clone(), cause: cause.to_owned() }
    }

    fn refused(&self, error: &object_store::Error) -> SourceError {
        self.failed(&cause(error))
    }
}

/// A tag as `If-Match` wants it: some stores list it without its quotes.
fn tag(given: &str) -> String {
    format!("\"{}\"", given.trim_matches('"'))
}

const CHANGED: &str = "an object changed while it was read";

/// Why the store gave nothing, without its own text.
fn cause(error: &object_store::Error) -> String {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => "there is no such object or bucket".into(),
        E::Precondition { .. } => CHANGED.into(),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            "the store refused: the key or its secret is wrong, or the key may not read this".into()
        }
        error => {
            let chain = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
            let socket = chain.filter_map(|e| e.downcast_ref::<std::io::Error>()).last();
            socket.map_or_else(|| "the store cannot be reached, or does not answer as S3 does".into(), ToString::to_string)
        }
    }
}

/// Requests over the connection's own TLS, without proxies and redirects.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn client(store: &Store) -> std::result::Result<AmazonS3, String> {
    let settings = &store.settings;
    let Host::Name(host) = &settings.host else { return Err("a store has no Unix socket".into()) };
    let secret = settings.password().map_err(|fault| format!("{}: {}", fault.place, fault.cause))?;
    let secret = secret.ok_or("the key's secret is missing: name its file in `password_file`")?;
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent("concordat-node");
    let (scheme, http) = match &settings.tls {
        Some(tls) => {
            let config = tls.config().map_err(|fault| format!("{}: {}", fault.place, fault.cause))?;
            ("https", http.https_only(true).tls_backend_preconfigured(config))
        }
        None => ("http", http.tls_backend_preconfigured(nobody()?)),
    };
    let http = http.build().map_err(|_| "no requests can be made".to_owned())?;
    // An address of version 6 has brackets in a URL.
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    AmazonS3Builder::new()
        .with_endpoint(format!("{scheme}://{host}:{}", settings.port))
        .with_allow_http(settings.tls.is_none())
        .with_region(&store.region)
        .with_bucket_name(&settings.database)
        .with_access_key_id(&settings.user)
        .with_secret_access_key(secret.as_str())
        .with_retry(RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(6), ..RetryConfig::default() })
        .with_http_connector(Connector(http))
        .build()
        .map_err(|_| "the bucket, region or endpoint cannot be used".into())
}

/// TLS that trusts nobody: for requests that have none.
fn nobody() -> std::result::Result<rustls::ClientConfig, String> {
    let builder = rustls::ClientConfig::builder_with_provider(concordat_operate::certificate::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|_| "no requests can be made")?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection '{}'", self.connection)
    }
}

/// For the engine.
fn told(error: SourceError) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

fn read_only<T>() -> Result<T> {
    Err(Error::NotSupported { source: "a source is only read".into() })
}

#[async_trait]
impl ObjectStore for Snapshot {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let missing = || told(self.failed("an object was asked for that is not part of the dataset"));
        let object = self.objects.get(location).ok_or_else(missing)?.clone();
        let wanted = options.range.map(|range| range.as_range(object.size)).transpose();
        let wanted = wanted.map_err(|_| told(self.failed("a part was asked for that the object has not")))?;
        let range = wanted.clone().unwrap_or(0..object.size);
        let payload = if options.head || range.is_empty() {
            stream::empty().boxed()
        } else {
            let connection = self.connection.clone();
            let body = self.ranged(location, wanted).await.map_err(told)?.into_stream();
            body.map_err(move |e| told(SourceError::Database { connection: connection.clone(), cause: cause(&e) })).boxed()
        };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta: object, range, attributes: Attributes::default() })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let within = |key: &&Path| prefix.is_none_or(|prefix| *key == prefix || key.prefix_matches(prefix));
        let listed: Vec<_> = self.objects.keys().filter(within).filter_map(|key| self.objects.get(key)).cloned().map(Ok).collect();
        stream::iter(listed).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let objects = self.list(prefix).try_collect().await?;
        Ok(ListResult { objects, common_prefixes: Vec::new() })
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        read_only()
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(std::future::ready(read_only())).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only()
    }
}
