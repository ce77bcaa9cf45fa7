//! Every kind of mistake in the files of an operator, shown by a broken example.
