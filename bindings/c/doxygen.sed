# Comments of cdna.h as doxygen wants them: before a declaration /**, behind one /**<. Headings of parts stay as they are.
1s,^/\*,/** @file\n * ,
/^\/\* ----/b
s,^( *)/\* ,\1/** ,
s,^([^/]*[^/ ][^/]*) /\* ,\1 /**< ,
s,^(.*/\*\*<.*\*/[^/]*[^/ ][^/]*) /\* ,\1 /**< ,
