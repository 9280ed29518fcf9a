// The table of types. Sizes are those of ggml-common.h, and but for Q8_1 also those of GGML_QUANT_SIZES in `gguf` 0.19.
#include "libcdna/import/gguf/ggml_types.hpp"

#include <algorithm>
#include <array>

namespace cdna {
namespace {

constexpr std::array kTypes{
    GgmlType{0, "F32", 1, 4, DType::f32, nullptr},
    GgmlType{1, "F16", 1, 2, DType::f16, nullptr},
    GgmlType{2, "Q4_0", 32, 18, DType::none, &kQ4_0Codes},
    GgmlType{3, "Q4_1", 32, 20, DType::none, &kQ4_1Codes},
    GgmlType{6, "Q5_0", 32, 22, DType::none, &kQ5_0Codes},
    GgmlType{7, "Q5_1", 32, 24, DType::none, &kQ5_1Codes},
    GgmlType{8, "Q8_0", 32, 34, DType::none, &kQ8_0Codes},
    GgmlType{9, "Q8_1", 32, 36, DType::none, nullptr},  // Of activations. (The Python package says 40.)
    GgmlType{10, "Q2_K", 256, 84, DType::none, &kQ2KCodes},
    GgmlType{11, "Q3_K", 256, 110, DType::none, &kQ3KCodes},
    GgmlType{12, "Q4_K", 256, 144, DType::none, &kQ4KCodes},
    GgmlType{13, "Q5_K", 256, 176, DType::none, &kQ5KCodes},
    GgmlType{14, "Q6_K", 256, 210, DType::none, &kQ6KCodes},
    GgmlType{15, "Q8_K", 256, 292, DType::none, nullptr},  // Of activations.
    GgmlType{16, "IQ2_XXS", 256, 66, DType::none, nullptr},
    GgmlType{17, "IQ2_XS", 256, 74, DType::none, nullptr},
    GgmlType{18, "IQ3_XXS", 256, 98, DType::none, nullptr},
    GgmlType{19, "IQ1_S", 256, 50, DType::none, nullptr},
    GgmlType{20, "IQ4_NL", 32, 18, DType::none, &kIq4NlCodes},
    GgmlType{21, "IQ3_S", 256, 110, DType::none, nullptr},
    GgmlType{22, "IQ2_S", 256, 82, DType::none, nullptr},
    GgmlType{23, "IQ4_XS", 256, 136, DType::none, &kIq4XsCodes},
    GgmlType{24, "I8", 1, 1, DType::i8, nullptr},
    GgmlType{25, "I16", 1, 2, DType::i16, nullptr},
    GgmlType{26, "I32", 1, 4, DType::i32, nullptr},
    GgmlType{27, "I64", 1, 8, DType::i64, nullptr},
    GgmlType{28, "F64", 1, 8, DType::f64, nullptr},
    GgmlType{29, "IQ1_M", 256, 56, DType::none, nullptr},
    GgmlType{30, "BF16", 1, 2, DType::bf16, nullptr},
    GgmlType{34, "TQ1_0", 256, 54, DType::none, &kTq1_0Codes},
    GgmlType{35, "TQ2_0", 256, 66, DType::none, &kTq2_0Codes},
    GgmlType{39, "MXFP4", 32, 17, DType::none, &kMxfp4Codes},
    GgmlType{40, "NVFP4", 64, 36, DType::none, &kNvfp4Codes},
    GgmlType{41, "Q1_0", 128, 18, DType::none, nullptr},
    GgmlType{42, "Q2_0", 64, 18, DType::none, nullptr},  // Not in the package yet; forks have blocks of 128.
    // Section 1.6 of the description of helix-substrate's formats.
    GgmlType{36, "HXQ_AFFINE_G128", 128, 132, DType::none, &kHxqAffineG128Codes},
    GgmlType{37, "HXQ_AFFINE_6", 128, 100, DType::none, &kHxqAffine6Codes},
};
constexpr std::size_t kPublicTypes = kTypes.size() - 2;

// Numbers that ggml gave up. Their tensors were made on loading, so that files with them are rare.
struct RetiredType {
  std::uint32_t id;
  std::string_view name;
};
constexpr std::array kRetired{
    RetiredType{4, "Q4_2"},        RetiredType{5, "Q4_3"},        RetiredType{31, "Q4_0_4_4"},
    RetiredType{32, "Q4_0_4_8"},   RetiredType{33, "Q4_0_8_8"},   RetiredType{36, "IQ4_NL_4_4"},
    RetiredType{37, "IQ4_NL_4_8"}, RetiredType{38, "IQ4_NL_8_8"},
};

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t id, GgufDialect dialect) {
  const std::size_t count = dialect == GgufDialect::hxq ? kTypes.size() : kPublicTypes;
  for (std::size_t i = 0; i < count; ++i)
    if (kTypes[i].id == id) return &kTypes[i];
  return nullptr;
}

const GgmlType* find_ggml_type(DType dtype) {
  for (const GgmlType& type : kTypes)
    if (dtype != DType::none && type.dtype == dtype) return &type;
  return nullptr;
}

std::string describe_unknown_ggml_type(std::uint32_t id) {
  std::string text = "type " + std::to_string(id);
  const auto* const retired =
      std::find_if(kRetired.begin(), kRetired.end(), [id](auto& type) { return type.id == id; });
  if (retired == kRetired.end()) return text + " is not known";
  text += " was " + std::string(retired->name) + " in ggml, which gave it up";
  const GgmlType* const elsewhere = find_ggml_type(id, GgufDialect::hxq);
  if (elsewhere == nullptr) return text;
  return text + ", and is " + std::string(elsewhere->name) +
         " in helix-substrate's fork of llama.cpp: where the file is from there, ask for the format gguf-hxq";
}

}  // namespace cdna
