//! The columns of a batch, written straight from the events as the server's arrays.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::call::{Call, Chunk, Row};
use super::rows::pack_headers;

/// The events of one statement.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Chunk>,
    pub(super) events: usize,
}

impl Batch {
    /// The events in order, with the call that each is of.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Call, usize)> {
        let each = |chunk: &Chunk| chunk.from..chunk.to;
        self.chunks
            .iter()
            .flat_map(move |chunk| each(chunk).map(|at| (&*chunk.call, at)))
    }
}

/// How one value of a column is written.
type Write = fn(&Call, &Row, usize, &mut BytesMut) -> IsNull;

/// One column of a batch.
pub(super) struct Column<'b> {
    batch: &'b Batch,
    element: Type,
    write: Write,
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Column({})", self.element)
    }
}

impl Column<'_> {
    /// The type of the whole column.
    pub(super) fn array(&self) -> Type {
        match self.element {
            Type::INT4 => Type::INT4_ARRAY,
            Type::INT2 => Type::INT2_ARRAY,
            Type::UUID => Type::UUID_ARRAY,
            _ => Type::BYTEA_ARRAY,
        }
    }
}

/// The columns in the order of the statement's parameters.
pub(super) fn columns(batch: &Batch) -> [Column<'_>; 6] {
    let all: [(Type, Write); 6] = [
        (Type::INT4, |_, row, _, out| {
            out.put_i32(row.topic);
            IsNull::No
        }),
        (Type::INT2, |_, row, _, out| {
            out.put_i16(row.part);
            IsNull::No
        }),
        (Type::UUID, |_, row, _, out| {
            out.put_slice(row.event.as_bytes());
            IsNull::No
        }),
        (Type::BYTEA, |call, _, at, out| {
            bytes(call.events[at].envelope.key().map(|key| &**key), out)
        }),
        (Type::BYTEA, |call, _, at, out| {
            pack_headers(&call.events[at].envelope, out);
            IsNull::No
        }),
        (Type::BYTEA, |call, _, at, out| {
            let payload = call.events[at].envelope.payload();
            bytes(payload.map(|payload| &**payload), out)
        }),
    ];
    all.map(|(element, write)| Column {
        batch,
        element,
        write,
    })
}

fn bytes(value: Option<&[u8]>, out: &mut BytesMut) -> IsNull {
    let Some(value) = value else {
        return IsNull::Yes;
    };
    out.put_slice(value);
    IsNull::No
}

impl ToSql for Column<'_> {
    /// An array of one dimension: dimensions, whether there are nulls, type, length, lower bound,
    /// then each value after its length.
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i32(1);
        out.put_i32(1);
        out.put_u32(self.element.oid());
        out.put_i32(i32::try_from(self.batch.events)?);
        out.put_i32(1);
        for (call, at) in self.batch.iter() {
            let start = out.len();
            out.put_i32(-1);
            if let IsNull::No = (self.write)(call, &call.rows[at], at, out) {
                let size = i32::try_from(out.len() - start - 4)?;
                out[start..start + 4].copy_from_slice(&size.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), tokio_postgres::types::Kind::Array(_))
    }

    to_sql_checked!();
}
