#include "relay/doctor/check.hpp"

#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

constexpr std::size_t max_text = 500;
constexpr std::size_t max_advice = 1200;  // holds the record of the largest DKIM key

std::string clean(std::string_view text, std::size_t limit) {
  const std::string printable = smtp::printable(text);
  const std::string_view cut = smtp::cut_text(printable, limit);
  return std::string(cut) + (cut.size() < printable.size() ? "..." : "");
}

}  // namespace

std::string_view to_string(Result result) {
  switch (result) {
    case Result::ok:
      return "ok";
    case Result::warn:
      return "warn";
    case Result::fail:
      return "fail";
  }
  return "fail";
}

Check make_check(std::string kind, std::string subject, Result result, std::string text, std::string advice) {
  return {std::move(kind), clean(subject, max_text), result, clean(text, max_text), clean(advice, max_advice)};
}

}  // namespace egret::relay::doctor
