// Names and colours of the classes, from the manifest.json that keras_seg writes beside a model.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

struct Classes {
  std::vector<std::string> names;               // UTF-8
  std::vector<std::array<uint8_t, 3>> colors;  // red, green, blue
};

// Walks through a JSON text; the caller says what it wants at each place and skips the rest.
class Json {
 public:
  explicit Json(std::string text) : text_(std::move(text)) {}

  // Calls visit(key) with the reader at each member's value, which visit must read or skip.
  template <class Visit>
  void object(Visit visit) {
    list('{', '}', [&] {
      const std::string key = string();
      take(':');
      visit(key);
    });
  }

  // Calls visit() with the reader at each element, which visit must read or skip.
  template <class Visit>
  void array(Visit visit) {
    list('[', ']', visit);
  }

  double number() {
    const char* start = text_.c_str() + (next(), at_);
    char* end = nullptr;
    const double value = std::strtod(start, &end);
    if (end == start) fail();
    at_ += size_t(end - start);
    return value;
  }

  std::string string() {
    std::string value;
    for (take('"'); at_ < text_.size() && text_[at_] != '"';) {
      const char c = text_[at_++];
      if (c != '\\') {
        value += c;
        continue;
      }
      static const std::string letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
      const char letter = at_ < text_.size() ? text_[at_++] : '\0';
      const size_t which = letters.find(letter);
      if (letter == 'u') {
        append_utf8(value);
      } else if (which != std::string::npos) {
        value += meanings[which];
      } else {
        fail();
      }
    }
    take('"');
    return value;
  }

  void skip() {
    const char c = next();
    if (c == '{') {
      object([&](const std::string&) { skip(); });
    } else if (c == '[') {
      array([&] { skip(); });
    } else if (c == '"') {
      string();
    } else if (std::isalpha(static_cast<unsigned char>(c))) {  // true, false, null
      while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) ++at_;
    } else {
      number();
    }
  }

 private:
  [[noreturn]] void fail() const {
    throw std::runtime_error("no valid JSON at byte " + std::to_string(at_));
  }

  char next() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    if (at_ == text_.size()) fail();
    return text_[at_];
  }

  void take(char expected) {
    if (next() != expected) fail();
    ++at_;
  }

  template <class Visit>
  void list(char open, char close, Visit visit) {
    take(open);
    while (next() != close) {
      visit();
      if (next() != close) take(',');
    }
    take(close);
  }

  unsigned hexadecimal() {
    const std::string digits = text_.substr(std::min(at_, text_.size()), 4);
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) fail();
    if (digits.size() < 4) fail();
    at_ += 4;
    return unsigned(std::stoul(digits, nullptr, 16));
  }

  void append_utf8(std::string& value) {
    unsigned code = hexadecimal();
    if (code >= 0xD800 && code < 0xDC00 && text_.compare(at_, 2, "\\u") == 0) {
      at_ += 2;
      code = 0x10000 + ((code - 0xD800) << 10) + ((hexadecimal() - 0xDC00) & 0x3FF);
    }
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xC0, 0xE0, 0xF0};
    value += char(lead[more] | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) value += char(0x80 | (code >> (6 * i) & 0x3F));
  }

  std::string text_;
  size_t at_ = 0;
};

// The "classes" of the manifest at `path`: {"names": [...], "colors": [[r, g, b], ...]}.
inline Classes read_classes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::runtime_error("Cannot read " + path +
                             ", which names the classes; keep it beside the model.");
  }
  Json json(std::string(std::istreambuf_iterator<char>(file), {}));
  Classes classes;
  try {
    json.object([&](const std::string& key) {
      if (key != "classes") return json.skip();
      json.object([&](const std::string& inner) {
        if (inner == "names") {
          json.array([&] { classes.names.push_back(json.string()); });
        } else if (inner == "colors") {
          json.array([&] {
            std::array<uint8_t, 3> color{};
            size_t i = 0;
            json.array([&] { color.at(i++) = uint8_t(json.number()); });
            classes.colors.push_back(color);
          });
        } else {
          json.skip();
        }
      });
    });
  } catch (const std::exception& error) {
    throw std::runtime_error(path + " is damaged: " + error.what() + ".");
  }
  const size_t count = classes.names.size();
  if (count < 1 || count > 255 || count != classes.colors.size()) {
    throw std::runtime_error(path + " does not have 1 to 255 classes with names and colours.");
  }
  return classes;
}
