// What must hold for any bytes that are opened as a CDNA file: the property behind the targets open_raw and
// open_repaired.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cdna::fuzz {

// Ends the program, naming `what`, unless `condition` holds. In all builds.
void require(bool condition, const char* what);

// Opens `file` in both trust modes, reads everything that can be read, checks and rebuilds it, and requires that
//  - both modes accept or refuse alike, item by item, for the same reason, with the same bytes;
//  - an error is of a class of section 1 of the format and names a rule, and one of open() its place within the file;
//  - the footer of an accepted file passes the verifier of the FlatBuffers library;
//  - rows read one by one are those of the whole tensor;
//  - fsck finds what reading found, and a file that is valid to it can be read to the last item;
//  - a rebuilt file opens, and is the file itself where that is valid.
// The bits of `order` choose what is called, and when.
void check_file(std::span<const std::byte> file, std::uint8_t order);

// The last byte of an input is its `order`. Takes it off and checks the rest.
void check_input(const std::uint8_t* data, std::size_t size);

}  // namespace cdna::fuzz
