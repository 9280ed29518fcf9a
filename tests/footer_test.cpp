// The footer that the library writes is one that any FlatBuffers library reads.
#include "libcdna/format/footer.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "libcdna/format/footer_builder.hpp"
#include "libcdna/format/tail.hpp"

namespace {

namespace fs = std::filesystem;

std::vector<std::byte> load_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("footer: every footer that is accepted passes the stock verifier and reads the same through its accessors") {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good")) {
    if (entry.path().extension() != ".cdna") continue;
    INFO(entry.path().filename().string());
    const std::vector<std::byte> file = load_file(entry.path());
    const auto tail = cdna::load<cdna::wire::Tail>(std::span(file).last(cdna::kTailBytes));
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(tail.footer_offset());
    const std::vector<std::byte> bytes(begin, begin + static_cast<std::ptrdiff_t>(tail.footer_length()));
    const auto footer = cdna::Footer::parse(bytes, tail);
    REQUIRE(footer);

    const auto* raw = reinterpret_cast<const std::uint8_t*>(bytes.data());
    flatbuffers::Verifier verifier(raw, bytes.size());
    REQUIRE(cdna::wire::VerifyFooterBuffer(verifier));
    const cdna::wire::Footer* stock = cdna::wire::GetFooter(raw);
    REQUIRE(stock->items()->size() == footer->item_count());
    for (std::uint32_t i = 0; i < footer->item_count(); ++i) {
      CHECK(stock->items()->Get(i)->packet_offset() == footer->item(i).item->packet_offset());
      CHECK(stock->order()->Get(i) == footer->order()[i]);
    }

    cdna::FooterBuilder builder;  // And it is the only footer with this content.
    for (std::uint32_t i = 0; i < footer->item_count(); ++i) builder.add(footer->item(i));
    CHECK(builder.build() == bytes);
    ++files;
  }
  CHECK(files >= 40);
}
