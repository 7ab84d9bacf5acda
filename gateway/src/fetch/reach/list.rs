//! A list: pseudonyms in ascending order, wiped when it is dropped, in the room that was taken for it; and a release's rows without those
//! on lists.

use std::sync::Arc;

use arrow::array::{Array as _, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::filter_record_batch;
use concordat_policy::Refusal;
use concordat_policy::column::LINKED;
use concordat_proto::reach::{Changes, Pseudonym};
use zeroize::Zeroizing;

use super::room::Room;

/// Pseudonyms in ascending order.
#[derive(Default)]
pub(crate) struct List {
    all: Zeroizing<Vec<Pseudonym>>,
    room: Option<Room>,
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("List")
    }
}

impl List {
    /// A list that was sent whole.
    pub(super) fn whole(changes: Changes) -> Self {
        Self { all: Zeroizing::new(changes.added), room: None }
    }

    /// The list, in the room that was taken for it: what it does not need is given back.
    pub(super) fn within(mut self, mut room: Room) -> Self {
        room.shrink(self.all.capacity().saturating_mul(size_of::<Pseudonym>()));
        self.room = Some(room);
        self
    }

    /// How many bytes the list may take after changes.
    pub(super) fn bytes_after(&self, changes: &Changes) -> usize {
        self.all.len().saturating_add(changes.added.len()).saturating_mul(size_of::<Pseudonym>())
    }

    /// Bytes that are free when it is dropped.
    pub(super) fn bytes(&self) -> usize {
        self.room.as_ref().map_or(0, Room::bytes)
    }

    /// The list after changes. What is removed need not be in it.
    pub(super) fn after(&self, changes: &Changes) -> Self {
        // All room at once: growing would leave a copy behind that nobody wipes.
        let mut all = Zeroizing::new(Vec::with_capacity(self.all.len() + changes.added.len()));
        let (mut added, mut removed) = (changes.added.iter().peekable(), changes.removed.iter().peekable());
        for known in self.all.iter() {
            while let Some(new) = added.next_if(|new| *new < known) {
                all.push(*new);
            }
            added.next_if(|new| *new == known);
            while removed.next_if(|gone| *gone < known).is_some() {}
            if removed.peek() != Some(&known) {
                all.push(*known);
            }
        }
        all.extend(added);
        Self { all, room: None }
    }

    /// Those from `first` to `last`.
    fn between(&self, first: &[u8], last: &[u8]) -> &[Pseudonym] {
        let start = self.all.partition_point(|pseudonym| pseudonym.as_slice() < first);
        let end = self.all.partition_point(|pseudonym| pseudonym.as_slice() <= last);
        self.all.get(start..end).unwrap_or_default()
    }
}

/// The rows of a release's batch whose subjects are on none of the lists. Its first column is the pseudonym, ascending: that was checked
/// when it came. A link dataset has a second one, `linked_subject`, in no order.
///
/// # Errors
/// [`concordat_policy::Code::Internal`] for another batch.
pub(crate) fn without(batch: RecordBatch, lists: &[Arc<List>]) -> Result<RecordBatch, Refusal> {
    let strange = || Refusal::internal("a release's batch without pseudonyms");
    if lists.is_empty() || batch.num_rows() == 0 {
        return Ok(batch);
    }
    let subjects = batch.columns().first().and_then(|column| column.as_any().downcast_ref::<FixedSizeBinaryArray>());
    let subjects = subjects.filter(|subjects| subjects.null_count() == 0).ok_or_else(strange)?;
    let (first, last) = (subjects.value(0), subjects.value(subjects.len() - 1));
    let mut keep: Option<Vec<bool>> = None;
    for list in lists {
        let mut listed = list.between(first, last).iter().peekable();
        for (row, subject) in subjects.iter().enumerate() {
            let subject = subject.ok_or_else(strange)?;
            while listed.next_if(|listed| listed.as_slice() < subject).is_some() {}
            let Some(next) = listed.peek() else { break };
            if next.as_slice() == subject
                && let Some(keep) = keep.get_or_insert_with(|| vec![true; subjects.len()]).get_mut(row)
            {
                *keep = false;
            }
        }
    }
    if let Some(linked) = batch.column_by_name(LINKED) {
        let linked =
            linked.as_any().downcast_ref::<FixedSizeBinaryArray>().filter(|linked| linked.null_count() == 0).ok_or_else(strange)?;
        for (row, subject) in linked.iter().enumerate() {
            let subject = subject.ok_or_else(strange)?;
            if lists.iter().any(|list| !list.between(subject, subject).is_empty())
                && let Some(keep) = keep.get_or_insert_with(|| vec![true; linked.len()]).get_mut(row)
            {
                *keep = false;
            }
        }
    }
    match keep {
        None => Ok(batch),
        Some(keep) => filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(Refusal::internal),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{ArrayRef, AsArray as _, DictionaryArray, Int64Array};
    use arrow::buffer::Buffer;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn pseudonym(n: u8) -> Pseudonym {
        u128::from(n).to_be_bytes()
    }

    fn list(of: &BTreeSet<u8>) -> List {
        List::whole(Changes { added: of.iter().copied().map(pseudonym).collect(), removed: Vec::new() })
    }

    fn numbers(u: &mut arbtest::arbitrary::Unstructured<'_>, most: u8) -> arbtest::arbitrary::Result<Vec<u8>> {
        let count = u.int_in_range(0..=12)?;
        (0..count).map(|_| u.int_in_range(0..=most)).collect()
    }

    #[test]
    fn changes_make_of_a_list_what_they_make_of_a_set() {
        arbtest::arbtest(|u| {
            let mut model: BTreeSet<u8> = numbers(u, 20)?.into_iter().collect();
            let mut own = list(&model);
            for _ in 0..3 {
                let added: BTreeSet<u8> = numbers(u, 20)?.into_iter().collect();
                let removed: BTreeSet<u8> = numbers(u, 20)?.into_iter().filter(|n| !added.contains(n)).collect();
                let all = |of: &BTreeSet<u8>| of.iter().copied().map(pseudonym).collect();
                let changes = Changes { added: all(&added), removed: all(&removed) };
                let most = own.bytes_after(&changes);
                own = own.after(&changes);
                assert!(own.all.capacity() * size_of::<Pseudonym>() <= most);
                model = model.union(&added).copied().filter(|n| !removed.contains(n)).collect();
                assert!(*own.all == *list(&model).all);
            }
            Ok(())
        });
    }

    #[test]
    fn who_is_on_a_list_has_no_row_and_everybody_else_has_theirs() {
        arbtest::arbtest(|u| {
            let mut subjects = numbers(u, 9)?;
            subjects.sort_unstable();
            let mut lists: Vec<BTreeSet<u8>> = Vec::new();
            for _ in 0..u.int_in_range(0..=3)? {
                lists.push(numbers(u, 9)?.into_iter().collect());
            }
            let own: Vec<Arc<List>> = lists.iter().map(|of| Arc::new(list(of))).collect();
            let bytes: Vec<u8> = subjects.iter().flat_map(|n| pseudonym(*n)).collect();
            let column: ArrayRef = Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), None).unwrap());
            let words: DictionaryArray<Int32Type> = subjects.iter().map(|n| Some(if n % 2 == 0 { "even" } else { "odd" })).collect();
            let words: ArrayRef = Arc::new(words);
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(subjects.iter().map(|n| i64::from(*n))));
            let listed = |n: &u8| lists.iter().any(|l| l.contains(n));
            let link: Option<Vec<u8>> = u.arbitrary::<bool>()?.then(|| subjects.iter().map(|n| n * 7 % 10).collect());
            let mut columns = vec![("subject", column), ("word", words), ("value", values)];
            if let Some(linked) = &link {
                let bytes: Vec<u8> = linked.iter().flat_map(|n| pseudonym(*n)).collect();
                columns.insert(1, (LINKED, Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), None).unwrap())));
            }
            let left = without(RecordBatch::try_from_iter(columns).unwrap(), &own).unwrap();
            let left: Vec<i64> = left.column_by_name("value").unwrap().as_primitive::<Int64Type>().values().to_vec();
            let stays = |row: &usize| !listed(&subjects[*row]) && !link.as_ref().is_some_and(|linked| listed(&linked[*row]));
            let expected: Vec<i64> = (0..subjects.len()).filter(stays).map(|row| i64::from(subjects[row])).collect();
            assert_eq!(left, expected, "{subjects:?}, linked {link:?}, without {lists:?}");
            Ok(())
        });
    }

    #[test]
    fn a_batch_without_pseudonyms_is_refused_and_not_passed_on() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("value", values)]).unwrap();
        assert!(without(batch.clone(), &[Arc::default()]).is_err());
        assert!(without(batch, &[]).is_ok());
    }
}
