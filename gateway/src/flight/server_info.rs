//! What the service says of itself: GetSqlInfo and GetXdbcTypeInfo. The same for every user.

use std::sync::OnceLock;

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, SqlInfo, SqlSupportedTransaction, SqlTransactionIsolationLevel, XdbcDataType};

/// The keywords beyond SQL-92 that statements may use.
const KEYWORDS: [&str; 3] = ["FILTER", "LIMIT", "OFFSET"];
const NUMERIC: [&str; 9] = ["abs", "ceil", "floor", "greatest", "least", "power", "round", "sqrt", "trunc"];
const STRING: [&str; 5] = ["btrim", "character_length", "lower", "substr", "upper"];
const DATETIME: [&str; 2] = ["date_part", "date_trunc"];
const SYSTEM: [&str; 2] = ["coalesce", "nullif"];

/// What GetSqlInfo answers.
///
/// # Errors
/// Arrow's, which never happens for these constants.
pub(super) fn sql_info() -> Result<&'static SqlInfoData> {
    static INFO: OnceLock<SqlInfoData> = OnceLock::new();
    if let Some(info) = INFO.get() {
        return Ok(info);
    }
    let info = build_sql_info()?;
    Ok(INFO.get_or_init(|| info))
}

fn build_sql_info() -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Concordat");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    // The version of the format, not of the library.
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlKeywords, &KEYWORDS[..]);
    info.append(SqlInfo::SqlNumericFunctions, &NUMERIC[..]);
    info.append(SqlInfo::SqlStringFunctions, &STRING[..]);
    info.append(SqlInfo::SqlDatetimeFunctions, &DATETIME[..]);
    info.append(SqlInfo::SqlSystemFunctions, &SYSTEM[..]);
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlTransactionsSupported, true);
    info.append(SqlInfo::SqlDefaultTransactionIsolation, SqlTransactionIsolationLevel::SqlTransactionReadCommitted as i64);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, 1i32 << SqlTransactionIsolationLevel::SqlTransactionReadCommitted as i32);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(SqlInfo::SqlSchemaTerm, "department");
    info.append(SqlInfo::SqlCatalogTerm, "mission");
    info.append(SqlInfo::SqlProcedureTerm, "");
    info.build()
}

/// What GetXdbcTypeInfo answers.
///
/// # Errors
/// Arrow's, which never happens for these constants.
pub(super) fn xdbc_types() -> Result<&'static XdbcTypeInfoData> {
    static TYPES: OnceLock<XdbcTypeInfoData> = OnceLock::new();
    if let Some(types) = TYPES.get() {
        return Ok(types);
    }
    let types = build_xdbc_types()?;
    Ok(TYPES.get_or_init(|| types))
}

/// The types of columns: text, integer, number, boolean, date, and the pseudonym.
fn build_xdbc_types() -> Result<XdbcTypeInfoData> {
    let one = |name: &str, kind: XdbcDataType, size: i32, quote: Option<&str>, radix: Option<i32>| XdbcTypeInfo {
        type_name: name.into(),
        data_type: kind,
        column_size: Some(size),
        literal_prefix: quote.map(Into::into),
        literal_suffix: quote.map(Into::into),
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: quote.is_some(),
        searchable: Searchable::Full,
        unsigned_attribute: radix.map(|_| false),
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.into()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: kind,
        datetime_subcode: None,
        num_prec_radix: radix,
        interval_precision: None,
    };
    let mut types = XdbcTypeInfoDataBuilder::new();
    types.append(one("BIGINT", XdbcDataType::XdbcBigint, 64, None, Some(2)));
    types.append(one("BINARY", XdbcDataType::XdbcBinary, 16, None, None));
    types.append(one("BOOLEAN", XdbcDataType::XdbcBit, 1, None, None));
    types.append(one("DATE", XdbcDataType::XdbcDate, 10, Some("'"), None));
    types.append(one("DOUBLE", XdbcDataType::XdbcDouble, 53, None, Some(2)));
    types.append(one("VARCHAR", XdbcDataType::XdbcVarchar, 4096, Some("'"), None));
    types.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_build() {
        assert!(sql_info().unwrap().record_batch([]).unwrap().num_rows() > 20);
        assert_eq!(sql_info().unwrap().record_batch([0]).unwrap().num_rows(), 1);
        assert_eq!(xdbc_types().unwrap().record_batch(None).unwrap().num_rows(), 6);
    }
}
