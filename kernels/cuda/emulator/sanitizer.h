// Whether AddressSanitizer looks on, and its functions.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define CDNA_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CDNA_EMULATOR_ASAN 1
#endif
#endif

#ifdef CDNA_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
