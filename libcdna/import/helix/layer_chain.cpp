// Walks a layer chain and compares it with what a receipt states.
#include "libcdna/import/helix/layer_chain.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "libcdna/import/helix/shake256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kStateBytes = 32;
constexpr std::size_t kRootBytes = 64;
constexpr std::size_t kStepBytes = std::size_t{1} << 20;
constexpr std::uint64_t kItemBytesMax = ~std::uint32_t{0};  // Lengths are u32.
constexpr std::string_view kNone = "none";

using State = std::array<std::byte, kStateBytes>;

std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const std::byte byte : bytes) {
    out += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    out += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return out;
}

Result<ChainLayer> parse_layer(const PythonJson& json, std::size_t number) {
  const std::string place = "layer " + std::to_string(number) + " has no ";
  const auto text = [&](const char* key) -> Result<std::string> {
    auto found = json.string_of(key);
    CDNA_CHECK(found, Code::malformed, "", place + "string \"" + key + "\"");
    return *std::move(found);
  };
  ChainLayer layer;
  layer.name = CDNA_TRY(text("layer_name"));
  layer.base_digest = CDNA_TRY(text("base_digest"));
  layer.sidecar_digest = CDNA_TRY(text("sidecar_digest"));
  layer.chain_digest = CDNA_TRY(text("chain_digest"));
  CDNA_CHECK(json.size_of("layer_index") == number, Code::malformed, "", place + "\"layer_index\" of its number");
  const auto base = json.size_of("base_bytes");
  const auto sidecar = json.size_of("sidecar_bytes");
  CDNA_CHECK(base && sidecar, Code::malformed, "", place + "sizes \"base_bytes\" and \"sidecar_bytes\"");
  layer.base_bytes = *base;
  layer.sidecar_bytes = *sidecar;
  return layer;
}

std::array<std::byte, 4> big_endian(std::uint64_t length) {
  return {std::byte(length >> 24 & 255), std::byte(length >> 16 & 255), std::byte(length >> 8 & 255),
          std::byte(length & 255)};
}

// Feeds bytes to a chain, with their length before them, and to a digest of their own.
Result<void> hash(const ChainBytes& bytes, Shake256& chain, Shake256& own) {
  chain.update(big_endian(bytes.size_bytes));
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(kStepBytes, bytes.size_bytes)));
  for (std::uint64_t at = 0; at < bytes.size_bytes; at += buffer.size()) {
    const auto part = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), bytes.size_bytes - at)));
    CDNA_TRY(bytes.read(at, part));
    chain.update(part);
    own.update(part);
  }
  return {};
}

class Walk {
 public:
  Walk(const ChainSource& source, ReceiptReport& report) : source_(source), report_(report) {}

  Result<void> take(const ChainLayer& layer) {
    LayerCheck check;
    check.name = layer.name;
    const std::optional<ChainBytes> base = CDNA_TRY(source_.find(layer.name, layer.base_bytes));
    const std::optional<ChainBytes> sidecar = CDNA_TRY(find_sidecar(layer));
    check.is_found = base.has_value();
    if (!sizes_fit(layer, base, sidecar)) {
      is_cut_ = true;
      report(check);
      return {};
    }
    const ChainBytes nothing;
    Shake256 chain;
    Shake256 base_digest;
    Shake256 sidecar_digest;
    const auto name = std::as_bytes(std::span(layer.name));
    chain.update(state_);
    chain.update(big_endian(name.size()));
    chain.update(name);
    base_digest.update(name);
    sidecar_digest.update(name);
    CDNA_TRY(hash(base ? *base : nothing, chain, base_digest));
    CDNA_TRY(hash(sidecar ? *sidecar : nothing, chain, sidecar_digest));
    chain.finish(state_);
    State digest;
    base_digest.finish(digest);
    check.base_ok = base && layer.base_bytes == base->size_bytes && hex(digest) == layer.base_digest;
    sidecar_digest.finish(digest);
    check.sidecar_ok = sidecar ? layer.sidecar_bytes == sidecar->size_bytes && hex(digest) == layer.sidecar_digest
                               : layer.sidecar_digest == kNone && layer.sidecar_bytes == 0;
    check.chain_ok = !is_cut_ && hex(state_) == layer.chain_digest;
    report(check);
    return {};
  }

  const State& state() const { return state_; }

 private:
  // What has another size than the receipt says needs no hash to be wrong. So the work is bounded by what it states.
  static bool sizes_fit(const ChainLayer& layer, const std::optional<ChainBytes>& base,
                        const std::optional<ChainBytes>& sidecar) {
    return (!base || base->size_bytes == layer.base_bytes) && (!sidecar || sidecar->size_bytes == layer.sidecar_bytes);
  }

  // Where its own entry is missing the original took the tensor's: with the model as source of sidecars, all of them.
  Result<std::optional<ChainBytes>> find_sidecar(const ChainLayer& layer) const {
    const std::string own = layer.name + "_sidecar";
    for (const std::string& name : {own, own + ".weight"}) {
      auto found = CDNA_TRY(source_.find(name, layer.sidecar_bytes));
      if (found) return found;
    }
    const bool takes_itself = layer.sidecar_digest != kNone && layer.sidecar_bytes == layer.base_bytes;
    if (!takes_itself) return std::optional<ChainBytes>();
    return source_.find(layer.name, layer.sidecar_bytes);
  }

  void report(const LayerCheck& check) {
    const auto problem = [&](const std::string& text) {
      report_.problems.push_back("layer " + std::to_string(report_.layers.size()) + " " + escape(check.name) + ": " +
                                 text);
    };
    if (!check.is_found) {
      problem("the source has no such tensor");
    } else if (!check.base_ok) {
      problem("the tensor's bytes are not those of the receipt");
    }
    if (!check.sidecar_ok) problem("its sidecar is not that of the receipt");
    if (!check.chain_ok && !is_broken_) problem("the chain breaks here");
    is_broken_ = is_broken_ || !check.chain_ok;
    report_.layers.push_back(check);
  }

  const ChainSource& source_;
  ReceiptReport& report_;
  State state_{};
  bool is_cut_ = false;  // A layer was not hashed, and the state is none from there on.
  bool is_broken_ = false;
};

std::string root_of(std::span<const std::byte> state) {
  constexpr std::string_view kEnd = "ROOT";
  Shake256 root;
  root.update(state);
  root.update(std::as_bytes(std::span(kEnd)));
  std::array<std::byte, kRootBytes> digest;
  root.finish(digest);
  return hex(digest);
}

// The state that 64 lower-case digits spell; nothing where they are something else.
std::optional<State> state_of(std::string_view digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  State state;
  if (digits.size() != 2 * state.size()) return std::nullopt;
  for (std::size_t i = 0; i < state.size(); ++i) {
    const std::size_t high = kDigits.find(digits[2 * i]);
    const std::size_t low = kDigits.find(digits[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    state[i] = static_cast<std::byte>(high << 4 | low);
  }
  return state;
}

}  // namespace

Result<LayerChain> parse_layer_chain(const PythonJson& json) {
  CDNA_CHECK(json.size_of("version") == 1, Code::unsupported, "", "a layer chain of another version than 1");
  auto root = json.string_of("root_receipt");
  CDNA_CHECK(root, Code::malformed, "", "a layer chain without string \"root_receipt\"");
  const PythonJson* const layers = json.find("layers");
  CDNA_CHECK(layers != nullptr && layers->kind == PythonJson::Kind::array, Code::malformed, "",
             "a layer chain without array \"layers\"");
  CDNA_CHECK(json.size_of("layer_count") == layers->items.size(), Code::malformed, "",
             "\"layer_count\" is not the number of \"layers\"");
  LayerChain chain;
  chain.root = *std::move(root);
  std::set<std::string> names;
  for (const PythonJson& layer : layers->items) {
    chain.layers.push_back(CDNA_TRY(parse_layer(layer, chain.layers.size())));
    CDNA_CHECK(names.insert(chain.layers.back().name).second, Code::malformed, "",
               "two layers are called " + escape(chain.layers.back().name));
    CDNA_CHECK(chain.layers.back().base_bytes <= kItemBytesMax && chain.layers.back().sidecar_bytes <= kItemBytesMax,
               Code::malformed, "", "a layer of over 2^32 bytes, which a chain cannot hold");
  }
  return chain;
}

Result<void> check_layer_chain(const LayerChain& chain, const ChainSource* source, ReceiptReport& report) {
  std::optional<State> state = State{};
  if (source != nullptr) {
    Walk walk(*source, report);
    for (const ChainLayer& layer : chain.layers) CDNA_TRY(walk.take(layer));
    state = walk.state();
  } else if (!chain.layers.empty()) {
    state = state_of(chain.layers.back().chain_digest);
  }
  report.has_source = source != nullptr;
  report.hash_ok = state && root_of(*state) == chain.root;
  if (!report.hash_ok) report.problems.emplace_back("the root is not that of the layers");
  return {};
}

}  // namespace cdna
