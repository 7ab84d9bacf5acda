//! Requests about the service and its catalogue. Their tickets are the requests themselves: they hold no secret, and what is
//! answered depends on who redeems them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    Any, Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo,
};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use concordat_policy::{Code, Refusal};
use futures::TryStreamExt as _;
use prost::Message as _;

use super::tree::{Object, objects};
use super::{Answers, Known, plain, server_info};
use crate::Gateway;
use crate::pipeline::{self, Refused};

/// The longest request, in bytes.
const MAX: usize = 8 << 10;
/// The longest pattern or name in one, in bytes.
const MAX_PATTERN: usize = 256;

/// A metadata request.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Catalogs,
    Schemas(CommandGetDbSchemas),
    Tables(CommandGetTables),
    TableTypes,
    SqlInfo(CommandGetSqlInfo),
    Types(CommandGetXdbcTypeInfo),
    /// Keys are not stated: a pseudonym is the key of every dataset, and its uses say what it may be joined with.
    PrimaryKeys,
    ForeignKeys,
}

impl Asked {
    /// The metadata request in a descriptor or ticket, if it is one.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let message = Any::decode(Some(bytes).filter(|bytes| bytes.len() <= MAX)?).ok()?;
        Some(match Command::try_from(message).ok()? {
            Command::CommandGetCatalogs(_) => Self::Catalogs,
            Command::CommandGetDbSchemas(asked) => Self::Schemas(asked),
            Command::CommandGetTables(asked) => Self::Tables(asked),
            Command::CommandGetTableTypes(_) => Self::TableTypes,
            Command::CommandGetSqlInfo(asked) => Self::SqlInfo(asked),
            Command::CommandGetXdbcTypeInfo(asked) => Self::Types(asked),
            Command::CommandGetPrimaryKeys(_) => Self::PrimaryKeys,
            Command::CommandGetExportedKeys(_) | Command::CommandGetImportedKeys(_) | Command::CommandGetCrossReference(_) => {
                Self::ForeignKeys
            }
            _ => return None,
        })
    }

    /// The columns of the answer, as Flight SQL states them.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn schema(&self) -> Result<SchemaRef, Refusal> {
        Ok(match self {
            Self::Catalogs => CommandGetCatalogs {}.into_builder().schema(),
            Self::Schemas(asked) => asked.clone().into_builder().schema(),
            Self::Tables(asked) => asked.clone().into_builder().schema(),
            Self::TableTypes => CommandGetTableTypes {}.into_builder().schema(),
            Self::SqlInfo(_) => server_info::sql_info().map_err(Refusal::internal)?.schema(),
            Self::Types(_) => server_info::xdbc_types().map_err(Refusal::internal)?.schema(),
            Self::PrimaryKeys => Arc::new(primary_keys()),
            Self::ForeignKeys => Arc::new(foreign_keys()),
        })
    }

    /// The announcement of the answer.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo, Refusal> {
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(descriptor.cmd.clone()));
        let info = FlightInfo::new().try_with_schema(&*self.schema()?).map_err(Refusal::internal)?;
        Ok(info.with_endpoint(endpoint).with_descriptor(descriptor))
    }

    /// Whether the answer depends on who asks.
    fn is_personal(&self) -> bool {
        matches!(self, Self::Catalogs | Self::Schemas(_) | Self::Tables(_))
    }

    fn bounded(&self) -> Result<(), Refusal> {
        let texts: Vec<&String> = match self {
            Self::Schemas(asked) => asked.catalog.iter().chain(&asked.db_schema_filter_pattern).collect(),
            Self::Tables(asked) => {
                let patterns = asked.catalog.iter().chain(&asked.db_schema_filter_pattern).chain(&asked.table_name_filter_pattern);
                patterns.chain(asked.table_types.iter().take(64)).collect()
            }
            _ => Vec::new(),
        };
        let long = texts.iter().any(|text| text.len() > MAX_PATTERN);
        if long {
            Err(Refusal::new(Code::LimitExceeded, format!("a name or pattern may be at most {MAX_PATTERN} bytes long")))
        } else {
            Ok(())
        }
    }

    fn batch(self, objects: &[Object]) -> arrow_flight::error::Result<RecordBatch> {
        match self {
            Self::Catalogs => {
                let mut builder = CommandGetCatalogs {}.into_builder();
                let missions: BTreeSet<&str> = objects.iter().map(|o| o.mission.as_str()).collect();
                missions.into_iter().for_each(|mission| builder.append(mission));
                builder.build()
            }
            Self::Schemas(asked) => {
                let mut builder = asked.into_builder();
                let mut last = None;
                for object in objects {
                    let place = (object.mission.as_str(), object.schema.as_str());
                    if last.replace(place) != Some(place) {
                        builder.append(place.0, place.1);
                    }
                }
                builder.build()
            }
            Self::Tables(asked) => {
                let mut builder = asked.into_builder();
                for o in objects {
                    builder.append(o.mission.as_str(), &o.schema, &o.name, o.kind, &o.columns)?;
                }
                builder.build()
            }
            Self::TableTypes => {
                let mut builder = CommandGetTableTypes {}.into_builder();
                builder.append("TABLE");
                builder.append("VIEW");
                builder.build()
            }
            Self::SqlInfo(mut asked) => {
                asked.info.sort_unstable();
                asked.info.dedup();
                server_info::sql_info()?.record_batch(asked.info)
            }
            Self::Types(asked) => server_info::xdbc_types()?.record_batch(asked.data_type),
            Self::PrimaryKeys => Ok(RecordBatch::new_empty(Arc::new(primary_keys()))),
            Self::ForeignKeys => Ok(RecordBatch::new_empty(Arc::new(foreign_keys()))),
        }
    }
}

/// Answers a metadata request; what tells of the catalogue is recorded first.
///
/// # Errors
/// What was refused, recorded.
pub(super) async fn answer(gateway: &Gateway, known: &Known, asked: Asked) -> Result<Answers<FlightData>, Refused> {
    let objects = async {
        asked.bounded()?;
        if asked.is_personal() { objects(gateway, known).await } else { Ok(Vec::new()) }
    };
    let objects = match objects.await {
        Ok(objects) => objects,
        Err(refusal) => return Err(pipeline::turned_away(gateway, &known.identity, refusal).await),
    };
    if asked.is_personal() {
        pipeline::looked_up(gateway, &known.identity).await?;
    }
    let schema = asked.schema().map_err(Refused::unlogged)?;
    let batch = asked.batch(&objects).map_err(|e| Refused::unlogged(Refusal::internal(e)))?;
    let stream = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(futures::stream::iter([Ok(batch)]))
        .map_err(|e| plain(&Refusal::internal(e)));
    Ok(Box::pin(stream))
}

fn fields(columns: &[(&str, DataType, bool)]) -> Schema {
    Schema::new(columns.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable)).collect::<Vec<_>>())
}

fn primary_keys() -> Schema {
    fields(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("column_name", DataType::Utf8, false),
        ("key_name", DataType::Utf8, true),
        ("key_sequence", DataType::Int32, false),
    ])
}

fn foreign_keys() -> Schema {
    fields(&[
        ("pk_catalog_name", DataType::Utf8, true),
        ("pk_db_schema_name", DataType::Utf8, true),
        ("pk_table_name", DataType::Utf8, false),
        ("pk_column_name", DataType::Utf8, false),
        ("fk_catalog_name", DataType::Utf8, true),
        ("fk_db_schema_name", DataType::Utf8, true),
        ("fk_table_name", DataType::Utf8, false),
        ("fk_column_name", DataType::Utf8, false),
        ("key_sequence", DataType::Int32, false),
        ("fk_key_name", DataType::Utf8, true),
        ("pk_key_name", DataType::Utf8, true),
        ("update_rule", DataType::UInt8, false),
        ("delete_rule", DataType::UInt8, false),
    ])
}
