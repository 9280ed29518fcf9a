// Tests of receipts: Python's JSON, execution receipts, layer chains; files of helix-substrate and damaged copies.
#include "cdna/receipt.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "libcdna/import/helix/python_json.hpp"
#include "temporary_folder.hpp"

using namespace cdna;

namespace {

const std::string kLegacy = CDNA_SOURCE_DIR "/tests/legacy/";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string dumped(const std::string& text, JsonSpaces spaces = JsonSpaces::compact) {
  const auto json = parse_python_json(text);
  INFO(text);
  REQUIRE(json);
  return dump_sorted(*json, spaces, "");
}

Code refusal(const std::string& text) {
  const auto json = parse_python_json(text);
  INFO(text);
  REQUIRE_FALSE(json);
  return json.error().code;
}

ReceiptReport verified(const std::string& json, const std::string& source = {}) {
  auto report = verify_receipt(json, source);
  if (!report) FAIL(report.error().describe());
  return *report;
}

// Copies the arrays of the fixture, so that they can be changed.
void copy_arrays(const test::TemporaryFolder& folder) {
  for (const auto& file : std::filesystem::directory_iterator(kLegacy + "receipts")) {
    if (file.path().extension() == ".npy") std::filesystem::copy(file.path(), folder.path());
  }
}

}  // namespace

TEST_CASE("python json: floats are written as repr() does") {
  CHECK(python_float_text(0.1) == "0.1");
  CHECK(python_float_text(1e-6) == "1e-06");
  CHECK(python_float_text(0.0001) == "0.0001");
  CHECK(python_float_text(0.00012) == "0.00012");
  CHECK(python_float_text(0.00001) == "1e-05");
  CHECK(python_float_text(123456789012345680.0) == "1.2345678901234568e+17");
  CHECK(python_float_text(1e16) == "1e+16");
  CHECK(python_float_text(9999999999999998.0) == "9999999999999998.0");
  CHECK(python_float_text(1e15) == "1000000000000000.0");
  CHECK(python_float_text(0.9993000000000001) == "0.9993000000000001");
  CHECK(python_float_text(-0.0) == "-0.0");
  CHECK(python_float_text(5e-324) == "5e-324");
  CHECK(python_float_text(1.7976931348623157e308) == "1.7976931348623157e+308");
}

TEST_CASE("python json: numbers keep their kind, and extremes become what Python makes of them") {
  CHECK(dumped("[1, 1.0, 1e2, -0, -0.0, 123456789012345678901234567890]") ==
        "[1,1.0,100.0,0,-0.0,123456789012345678901234567890]");
  CHECK(dumped("[1e999, -1e999, 1e-999, -1e-999, 0e999999999999999999999, NaN, Infinity, -Infinity]") ==
        "[Infinity,-Infinity,0.0,-0.0,0.0,NaN,Infinity,-Infinity]");
  CHECK(dumped("[0." + std::string(400, '0') + "1e300, 1" + std::string(400, '0') + "e-300]") == "[1e-101,1e+100]");
}

TEST_CASE("python json: strings are escaped to ASCII, keys sorted, the last of equal keys kept") {
  CHECK(dumped(R"({"b": "é\u00e9\ud83d\ude00\ud800x\u007f\/\"\\\n", "a": [true, false, null], "b2": {}})") ==
        R"({"a":[true,false,null],"b":"\u00e9\u00e9\ud83d\ude00\ud800x\u007f/\"\\\n","b2":{}})");
  CHECK(dumped("{\"a\": 1, \"b\": 2}", JsonSpaces::standard) == "{\"a\": 1, \"b\": 2}");
  CHECK(dumped("{\"k\": 1, \"x\": 5, \"k\": 2, \"k\": 3}") == "{\"k\":3,\"x\":5}");
}

TEST_CASE("python json: what json.loads refuses is refused") {
  for (const std::string text : {"", "{", "[1,]", "{\"a\":}", "01", "1.", ".5", "+1", "1e", "\"\x01\"", "\"\\x\"",
                                 "\"a", "[1] 2", "nul", "\"\\u12g4\"", "{1:2}", "\xFF", "-", "\"\\u-123\""})
    CHECK(refusal(text) == Code::malformed);
  CHECK(refusal(std::string(1000, '[')) == Code::limit);
  std::string many = "[0";
  for (std::size_t i = 0; i < kPythonJsonValuesMax; ++i) many += ",0";
  CHECK(refusal(many + "]") == Code::limit);
}

TEST_CASE("receipt: the canonical form is the one that the original hashed") {
  const std::string text = read_file(kLegacy + "receipts/execution_receipt_v1.json");
  const auto json = parse_python_json(text);
  REQUIRE(json);
  CHECK(dump_sorted(*json, JsonSpaces::compact, "receipt_sha256") ==
        read_file(kLegacy + "receipts/execution_receipt_v1.canonical.json"));
}

TEST_CASE("receipt: an execution receipt verifies, and none with any field changed") {
  const std::string text = read_file(kLegacy + "receipts/execution_receipt_v1.json");
  CHECK(is_receipt(text));
  const ReceiptReport report = verified(text);
  CHECK(report.passed());
  CHECK(report.hash_ok);
  CHECK(report.kind == ReceiptKind::execution);
  CHECK_FALSE(verified(replaced(text, "1.235", "1.236")).passed());
  CHECK_FALSE(verified(replaced(text, "\"alpha\"", "\"beta\"")).passed());
  CHECK_FALSE(verified(replaced(text, "4096", "4096.0")).passed());  // An integer is no float.
  CHECK_FALSE(verified(replaced(text, "30fda66a", "30fda66b")).passed());
  CHECK(verified(replaced(text, "1e-06", "0.000001")).passed());  // The same value.
  CHECK_FALSE(verified(replaced(text, "\"op_name\"", "\"name\"")).passed());
}

TEST_CASE("receipt: one without its hash or a required field does not pass") {
  const ReceiptReport report = verified(R"({"schema": "execution_receipt:v1", "operations": 3})");
  CHECK_FALSE(report.passed());
  CHECK(report.problems.size() == 5);
}

TEST_CASE("receipt: what is none, or has a source that it cannot have, is refused") {
  CHECK(verify_receipt("{}").error().code == Code::malformed);
  CHECK(verify_receipt("[").error().code == Code::malformed);
  CHECK_FALSE(is_receipt("{\"schema\": \"stream_xw_receipt_v1\"}"));
  const std::string text = read_file(kLegacy + "receipts/execution_receipt_v1.json");
  CHECK(verify_receipt(text, kLegacy).error().code == Code::bad_argument);
  const std::string chain = read_file(kLegacy + "receipts/layer_chain.dict.json");
  CHECK(verify_receipt(replaced(chain, "\"version\": 1", "\"version\": 2")).error().code == Code::unsupported);
  CHECK(verify_receipt(replaced(chain, "\"layer_count\": 3", "\"layer_count\": 4")).error().code == Code::malformed);
  CHECK(verify_receipt(chain, "/nonexistent").error().code == Code::io);
}

TEST_CASE("receipt: a layer chain of arrays verifies with its folder") {
  const std::string chain = read_file(kLegacy + "receipts/layer_chain.dict.json");
  const ReceiptReport report = verified(chain, kLegacy + "receipts");
  CHECK(report.passed());
  CHECK(report.has_source);
  CHECK(report.layers.size() == 3);
  const ReceiptReport alone = verified(chain);
  CHECK(alone.passed());
  CHECK_FALSE(alone.has_source);
  CHECK_FALSE(verified(replaced(chain, "8a514838", "8a514839")).passed());
}

TEST_CASE("receipt: a layer chain of a checkpoint verifies with its file and its folder") {
  const std::string chain = read_file(kLegacy + "receipts/layer_chain.hf_head_hxq.json");
  CHECK(verified(chain, kLegacy + "hf_head_hxq/model.safetensors").passed());
  const ReceiptReport report = verified(chain, kLegacy + "hf_head_hxq");
  CHECK(report.passed());
  CHECK(report.layers.size() == 6);
  CHECK_FALSE(verified(chain, kLegacy + "hf_v023_cdna_v3").passed());
}

TEST_CASE("receipt: a changed tensor breaks its layer and the chain of all after it, as in the original's result") {
  const test::TemporaryFolder folder;
  copy_arrays(folder);
  std::string array = read_file(folder / "tensor_1.npy");
  array.back() = static_cast<char>(array.back() ^ 1);
  test::save_file(folder / "tensor_1.npy", std::as_bytes(std::span(array)));
  const ReceiptReport report = verified(read_file(kLegacy + "receipts/layer_chain.dict.json"), folder.path().string());
  const auto expected = parse_python_json(read_file(kLegacy + "receipts/layer_chain.dict.tampered_result.json"));
  REQUIRE(expected);
  CHECK(report.passed() == expected->boolean_of("passed"));
  CHECK(report.hash_ok == expected->boolean_of("root_match"));
  const PythonJson* const detail = expected->find("detail");
  REQUIRE(detail != nullptr);
  REQUIRE(report.layers.size() == detail->items.size());
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    INFO(i);
    CHECK(report.layers[i].name == detail->items[i].string_of("layer"));
    CHECK(report.layers[i].base_ok == detail->items[i].boolean_of("base_ok"));
    CHECK(report.layers[i].sidecar_ok == detail->items[i].boolean_of("sidecar_ok"));
    CHECK(report.layers[i].chain_ok == detail->items[i].boolean_of("chain_ok"));
    CHECK(report.layers[i].passed() == detail->items[i].boolean_of("passed"));
  }
}

TEST_CASE("receipt: what has another size than stated is not read, and breaks the chain") {
  const test::TemporaryFolder folder;
  copy_arrays(folder);
  std::filesystem::remove(folder / "tensor_1.npy");
  test::save_file(folder / "tensor_1.bin", {});
  std::filesystem::resize_file(folder / "tensor_1.bin", std::uintmax_t{15} << 40);  // Reading it would take hours.
  const ReceiptReport report = verified(read_file(kLegacy + "receipts/layer_chain.dict.json"), folder.path().string());
  REQUIRE(report.layers.size() == 3);
  CHECK(report.layers[0].passed());
  CHECK_FALSE(report.layers[1].base_ok);
  CHECK_FALSE(report.layers[1].chain_ok);
  CHECK_FALSE(report.layers[2].chain_ok);
  CHECK_FALSE(report.passed());
}

TEST_CASE("receipt: two layers of one name are refused") {
  std::string chain = read_file(kLegacy + "receipts/layer_chain.dict.json");
  for (std::size_t at = 0; (at = chain.find("tensor_1", at)) != std::string::npos;) chain.replace(at, 8, "tensor_0");
  const auto report = verify_receipt(chain, kLegacy + "receipts");
  REQUIRE_FALSE(report);
  CHECK(report.error().code == Code::malformed);
}

TEST_CASE("receipt: a missing tensor fails even where the receipt was made without it") {
  const test::TemporaryFolder folder;
  // What the original makes of a chain over one absent tensor (SHAKE256 of Python's hashlib).
  const std::string base = "44d11ebafce970e1e3e2159bee577adcb877f84089b1fa7ffc2e7e1f31b54cfe";
  const std::string state = "477a5f675a774e0ed3306267c611155f8d212762015b561948b649869c498324";
  const std::string root =
      "48912c32486d57cf4d6ca2e3428bab98857319e643592b85c7f5fbd4541e5856"
      "407d327ea75ad86b104b2a969c4011aead0c37896e06c3914888b9cfd621d692";
  const std::string chain = R"({"version": 1, "model_name": "m", "layer_count": 1, "layers": [{"layer_name": "absent",
    "layer_index": 0, "base_digest": ")" +
                            base + R"(", "sidecar_digest": "none", "base_bytes": 0, "sidecar_bytes": 0,
    "chain_digest": ")" + state +
                            R"("}], "root_receipt": ")" + root + "\"}";
  const ReceiptReport report = verified(chain, folder.path().string());
  REQUIRE(report.layers.size() == 1);
  CHECK(report.layers[0].chain_ok);
  CHECK(report.hash_ok);
  CHECK_FALSE(report.layers[0].is_found);
  CHECK_FALSE(report.passed());
}

TEST_CASE("receipt: an absent, extra or shortened sidecar fails its layer") {
  const std::string chain = read_file(kLegacy + "receipts/layer_chain.dict.json");
  const test::TemporaryFolder folder;
  copy_arrays(folder);
  std::filesystem::remove(folder.path() / "tensor_1_sidecar.npy");
  CHECK_FALSE(verified(chain, folder.path().string()).layers[1].sidecar_ok);
  copy_file(kLegacy + "receipts/tensor_1_sidecar.npy", folder.path() / "tensor_0_sidecar.npy");
  CHECK_FALSE(verified(chain, folder.path().string()).layers[0].sidecar_ok);
}
