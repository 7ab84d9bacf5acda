//! Nothing here: the tests stand in `end_to_end/`.
