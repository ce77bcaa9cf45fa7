//! The words of SQL, and what part each can play in an injection.

/// What part a word plays. The words of one part are told apart by their text where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inspect::detect) enum Role {
    /// Anything that is not a word of SQL.
    Name,
    /// `and`, `or`, `xor`, `having`, `where`, `when`: a condition follows.
    Condition,
    Not,
    Union,
    /// `all`, `distinct`.
    Quantity,
    Select,
    From,
    /// `like`, `in`, `between`, `is` and other comparisons that are words.
    Compare,
    /// `null`, `true`, `false`.
    Literal,
    /// `order`, `group`; `by` follows.
    Sort,
    By,
    /// `limit`, `offset`, `into`, `procedure`, `for`, `asc`, `desc`.
    Tail,
    /// A word that begins a statement other than `select`.
    Statement,
    /// `table`, `database` and other kinds of thing that statements work on.
    Thing,
    /// `set`, `values`, `as`, `case`, `then`, `end` and others that only connect.
    Link,
    /// A function that waits, reads files, or leaks through errors; it has hardly another use.
    Danger,
    /// A function that injections use to build or compare values.
    Function,
    /// A table or variable that describes the database itself.
    Catalog,
    /// `div`, `mod`.
    Arithmetic,
}

impl Role {
    /// Whether a database reads this word separately when it is glued to a number: `1union`.
    pub(in crate::inspect::detect) fn glues_to_numbers(self) -> bool {
        matches!(
            self,
            Self::Condition
                | Self::Union
                | Self::Select
                | Self::From
                | Self::Compare
                | Self::Sort
                | Self::Arithmetic
                | Self::Tail
        )
    }
}

/// The part that a word in lower case plays.
pub(in crate::inspect::detect) fn role(word: &[u8]) -> Role {
    match word {
        b"and" | b"or" | b"xor" | b"having" | b"where" | b"when" => Role::Condition,
        b"not" => Role::Not,
        b"union" | b"intersect" | b"except" | b"minus" => Role::Union,
        b"all" | b"distinct" | b"distinctrow" | b"top" => Role::Quantity,
        b"select" => Role::Select,
        b"from" => Role::From,
        b"like" | b"ilike" | b"rlike" | b"regexp" | b"in" | b"between" | b"is" | b"glob"
        | b"similar" | b"sounds" | b"regexp_like" => Role::Compare,
        b"null" | b"true" | b"false" => Role::Literal,
        b"order" | b"group" => Role::Sort,
        b"by" => Role::By,
        b"limit" | b"offset" | b"into" | b"procedure" => Role::Tail,
        b"insert" | b"update" | b"delete" | b"drop" | b"truncate" | b"alter" | b"create"
        | b"exec" | b"execute" | b"declare" | b"waitfor" | b"shutdown" | b"grant" | b"revoke"
        | b"copy" | b"load" | b"call" | b"attach" | b"pragma" | b"merge" | b"replace"
        | b"rename" | b"desc" | b"describe" | b"show" | b"handler" | b"backup" | b"restore"
        | b"begin" | b"commit" | b"rollback" | b"kill" | b"do" | b"use" | b"with" | b"vacuum" => {
            Role::Statement
        }
        b"table" | b"database" | b"view" | b"user" | b"schema" | b"function" | b"trigger"
        | b"login" | b"column" | b"index" | b"sequence" | b"role" | b"databases" | b"tables" => {
            Role::Thing
        }
        b"set" | b"values" | b"as" | b"case" | b"then" | b"else" | b"end" | b"if" | b"exists"
        | b"delay" | b"cascade" | b"on" | b"to" | b"outfile" | b"dumpfile" | b"for" => Role::Link,
        b"div" | b"mod" => Role::Arithmetic,
        _ if is_danger(word) => Role::Danger,
        _ if is_catalog(word) => Role::Catalog,
        _ if is_function(word) => Role::Function,
        _ => Role::Name,
    }
}

fn is_danger(word: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 8] =
        [b"xp_", b"sp_", b"utl_", b"dbms_", b"pg_sleep", b"pg_read", b"pg_ls", b"ctxsys"];
    matches!(
        word,
        b"sleep"
            | b"benchmark"
            | b"load_file"
            | b"extractvalue"
            | b"updatexml"
            | b"randomblob"
            | b"load_extension"
            | b"openrowset"
            | b"opendatasource"
            | b"openquery"
            | b"sys_eval"
            | b"sys_exec"
            | b"lo_import"
            | b"lo_export"
            | b"gtid_subset"
            | b"name_const"
            | b"get_lock"
            | b"master_pos_wait"
            | b"query_to_xml"
            | b"database_to_xml"
            | b"dblink_connect"
            | b"current_setting"
            | b"fn_virtualfilestats"
            | b"zeroblob"
            | b"is_srvrolemember"
            | b"xmltype"
            | b"httpuritype"
    ) || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

fn is_catalog(word: &[u8]) -> bool {
    matches!(
        word,
        b"information_schema"
            | b"sysobjects"
            | b"syscolumns"
            | b"sysdatabases"
            | b"sysusers"
            | b"sqlite_master"
            | b"sqlite_schema"
            | b"sqlite_version"
            | b"pg_catalog"
            | b"pg_shadow"
            | b"pg_user"
            | b"pg_class"
            | b"pg_database"
            | b"pg_tables"
            | b"pg_stat_activity"
            | b"all_tables"
            | b"all_tab_columns"
            | b"all_users"
            | b"user_tables"
            | b"dba_users"
            | b"user_tab_columns"
            | b"v$version"
            | b"v$instance"
            | b"msysaccessobjects"
            | b"innodb_table_stats"
            | b"syslogins"
            | b"sysibm"
            | b"syscat"
            | b"systables"
            | b"rdb$database"
            | b"dual"
            | b"sysxlogins"
            | b"xmltable"
    )
}

fn is_function(word: &[u8]) -> bool {
    builds_values(word) || asks_server(word)
}

fn builds_values(word: &[u8]) -> bool {
    matches!(
        word,
        b"ascii"
            | b"substring"
            | b"substr"
            | b"mid"
            | b"ord"
            | b"char"
            | b"chr"
            | b"concat"
            | b"concat_ws"
            | b"group_concat"
            | b"string_agg"
            | b"hex"
            | b"unhex"
            | b"version"
            | b"database"
            | b"current_user"
            | b"session_user"
            | b"system_user"
            | b"user_name"
            | b"db_name"
            | b"host_name"
            | b"schema_name"
            | b"make_set"
            | b"elt"
            | b"iif"
            | b"ifnull"
            | b"nullif"
            | b"coalesce"
            | b"cast"
            | b"convert"
            | b"count"
            | b"floor"
            | b"rand"
            | b"exp"
            | b"length"
            | b"len"
            | b"lower"
            | b"upper"
            | b"strcmp"
            | b"bin"
    )
}

fn asks_server(word: &[u8]) -> bool {
    matches!(
        word,
        b"json_extract"
            | b"json_length"
            | b"json_keys"
            | b"json_array"
            | b"json_object"
            | b"polygon"
            | b"multipoint"
            | b"linestring"
            | b"geometrycollection"
            | b"multipolygon"
            | b"row_count"
            | b"found_rows"
            | b"last_insert_id"
            | b"analyse"
            | b"object_id"
            | b"object_name"
            | b"col_name"
            | b"unicode"
            | b"nchar"
            | b"stuff"
            | b"reverse"
            | b"lpad"
            | b"rpad"
            | b"repeat"
            | b"locate"
            | b"instr"
            | b"position"
            | b"aes_encrypt"
            | b"md5"
            | b"sha1"
            | b"getdate"
            | b"now"
            | b"current_database"
            | b"to_char"
            | b"rawtohex"
            | b"bitand"
            | b"uuid"
            | b"connection_id"
            | b"spatial"
            | b"st_latfromgeohash"
            | b"quote"
            | b"generate_series"
            | b"regexp_instr"
            | b"typeof"
            | b"array_agg"
            | b"inet_server_addr"
    )
}
