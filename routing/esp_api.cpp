#include "routing/esp_api.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <charconv>
#include <cmath>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using smtp::Phase;

constexpr std::size_t max_text = 500;
constexpr Duration longest_pause = 24h;

json::value parsed(std::string_view body) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 8;
  json::value out = json::parse({body.data(), body.size()}, error, {}, options);
  return error ? json::value() : out;
}

/// The member of an object, else null.
const json::value* member(const json::value* value, std::string_view name) {
  const json::object* object = value ? value->if_object() : nullptr;
  return object ? object->if_contains({name.data(), name.size()}) : nullptr;
}

/// Text or a number, as text; nothing else.
std::string text_of(const json::value* value) {
  if (!value) return {};
  if (const auto* text = value->if_string()) return {text->data(), text->size()};
  if (const auto* number = value->if_int64()) return std::to_string(*number);
  if (const auto* number = value->if_uint64()) return std::to_string(*number);
  return {};
}

double number_of(const json::value* value, double otherwise) {
  if (!value || !value->is_number()) return otherwise;
  const double out = value->to_number<double>();
  return std::isfinite(out) ? out : otherwise;
}

/// "BadRequestException:http://..." or "com.amazon#BadRequestException"
std::string_view bare_name(std::string_view name) {
  if (const auto hash = name.rfind('#'); hash != std::string_view::npos) name.remove_prefix(hash + 1);
  return name.substr(0, name.find(':'));
}

/// One line of clean text.
std::string words(std::string_view text) {
  std::string out;
  for (const char c : smtp::printable(text.substr(0, 4 * max_text)))
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  return std::string(smtp::trim(smtp::cut_text(out, max_text)));
}

/// The error in the ESP's words; what is no JSON is a gateway's page or plain text.
std::string error_words(std::string_view preset, const ApiResponse& response) {
  const json::value document = parsed(response.body);
  std::string name, message;
  if (preset == "ses") {
    name = bare_name(response.error_type);
    if (name.empty()) name = bare_name(text_of(member(&document, "__type")));
  }
  for (const char* key : {"message", "Message", "error"})
    if (message.empty()) message = text_of(member(&document, key));
  if (const auto* errors = member(&document, "errors"); errors && errors->is_array() && !errors->get_array().empty()) {
    const json::value& first = errors->get_array().front();
    message = text_of(member(&first, "message"));
    if (const auto more = text_of(member(&first, "description")); !more.empty()) message += ": " + more;
    if (const auto code = text_of(member(&first, "code")); !code.empty()) message += " (code " + code + ")";
  }
  const bool markup = smtp::trim(response.body).starts_with('<');
  if (document.is_null() && !markup) message = response.body;
  if (!name.empty()) message = name + (message.empty() ? "" : ": " + message);
  return words(message);
}

std::string message_id(std::string_view preset, std::string_view body) {
  const json::value document = parsed(body);
  std::string id;
  if (preset == "ses")
    id = text_of(member(&document, "MessageId"));
  else if (preset.starts_with("mailgun"))
    id = text_of(member(&document, "id"));
  else
    id = text_of(member(member(&document, "results"), "id"));
  while (id.starts_with('<')) id.erase(0, 1);
  while (id.ends_with('>')) id.pop_back();
  return words(id);
}

smtp::RecipientOutcome outcome(int code, std::string text, Phase phase) {
  return {smtp::make_reply(code, std::move(text)), phase};
}

/// SparkPost counts whom it rejected. There is one recipient in each request (config/smarthosts.yaml), so it is that one.
bool rejected_all(std::string_view preset, std::string_view body) {
  if (!preset.starts_with("sparkpost")) return false;
  const json::value document = parsed(body);
  const json::value* results = member(&document, "results");
  const double accepted = number_of(member(results, "total_accepted_recipients"), 1);
  return number_of(member(results, "total_rejected_recipients"), 0) > 0 && accepted < 1;
}

/// All of these APIs answer with a JSON object. Something else comes from whatever stands before them, and says nothing.
ApiVerdict success(std::string_view preset, const ApiResponse& response) {
  const std::string status = " (HTTP " + std::to_string(response.status) + ")";
  if (!parsed(response.body).is_object())
    return {.outcome = outcome(451, "4.3.0 this is no answer of the API" + status, Phase::ehlo), .ambiguous = true};
  if (rejected_all(preset, response.body))
    return {.outcome = outcome(550, "5.1.1 recipient rejected" + status, Phase::final_dot)};
  const std::string id = message_id(preset, response.body);
  const std::string_view named = preset.starts_with("mailgun") ? "queued as " : "Ok ";
  const std::string taken = id.empty() ? "taken, no id given" : std::string(named) + id;
  return {.outcome = outcome(250, "2.0.0 " + taken + status, Phase::final_dot)};
}

/// Whether the words are about an address among the recipients.
bool names_a_recipient(std::string_view preset, const std::string& text) {
  const std::string low = smtp::lower(text);
  const auto has = [&](std::string_view part) { return low.find(part) != std::string::npos; };
  if (preset.starts_with("mailgun")) return has("to parameter") || has("'to'") || has("valid address");
  if (preset == "ses")
    return has("missing final '@domain'") || has("illegal address") || has("local address contains") || has("domain contains") ||
           has("local-part") || has("invalid email address") || has("missing '@'") || has("suppression list");
  return has("recipient");
}

/// Seconds only: a date would need the ESP's clock.
Duration pause(std::string_view text) {
  text = smtp::trim(text);
  long seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || seconds <= 0) return Duration{0};
  return std::min<Duration>(longest_pause, std::chrono::seconds(std::min(seconds, 86400l)));
}

/// Where in a dialog by SMTP the same would have been said. What is about the service, or about us as its customer, comes
/// before any envelope; what may be about the message behind its end.
smtp::RecipientOutcome refusal(unsigned status, const std::string& words) {
  const std::string text = (words.empty() ? "refused" : words) + " (HTTP " + std::to_string(status) + ")";
  switch (status) {
    case 400:
    case 406:
    case 409:
    case 422:
      return outcome(554, "5.6.0 " + text, Phase::final_dot);
    case 401:
    case 403:
    case 407:
      return outcome(535, "5.7.8 " + text, Phase::final_dot);
    case 402:
      return outcome(554, "5.7.1 " + text, Phase::final_dot);
    case 413:
      return outcome(552, "5.3.4 " + text, Phase::final_dot);
    case 408:
    case 425:
    case 499:
      return outcome(451, "4.4.2 " + text, Phase::ehlo);
    case 420:
    case 429:
      return outcome(452, "4.7.0 " + text, Phase::final_dot);
    default:
      break;
  }
  if (status >= 500) return outcome(451, "4.3.0 " + text, Phase::ehlo);
  // No such domain, configuration set or path; redirects, which are never followed: the configuration is wrong, not the mail.
  return outcome(554, "5.3.5 " + text, Phase::ehlo);
}

/// Said by a gateway or a proxy after it has sent the request on: 502 and 504 (RFC 9110), 499 (nginx), 520 and 524
/// (Cloudflare), 598 and 599 (time-outs of other proxies).
bool lost_answer(unsigned status) {
  constexpr unsigned statuses[] = {499, 502, 504, 520, 524, 598, 599};
  return std::ranges::find(statuses, status) != std::end(statuses);
}

}  // namespace

ApiVerdict read_api_answer(std::string_view preset, const ApiResponse& response, std::size_t recipients) {
  if (response.status >= 200 && response.status < 300) return success(preset, response);
  ApiVerdict out;
  const std::string text = error_words(preset, response);
  out.outcome = refusal(response.status, text);
  out.ambiguous = lost_answer(response.status);
  const bool about_the_request = response.status == 400 || response.status == 422;
  out.one_by_one = about_the_request && recipients > 1 && names_a_recipient(preset, text);
  if (response.status == 429 || response.status == 420 || response.status == 503) out.retry_after = pause(response.retry_after);
  return out;
}

bool read_ses_account(std::string_view body, SesAccount& out) {
  const json::value document = parsed(body);
  const json::value* quota = member(&document, "SendQuota");
  const json::value* sending = member(&document, "SendingEnabled");
  const json::value* production = member(&document, "ProductionAccessEnabled");
  if (!quota || !sending || !sending->is_bool() || !production || !production->is_bool()) return false;
  SesAccount found;
  found.max_24h = number_of(member(quota, "Max24HourSend"), -1);
  found.sent_24h = number_of(member(quota, "SentLast24Hours"), 0);
  found.max_rate = number_of(member(quota, "MaxSendRate"), 0);
  found.sending = sending->get_bool();
  found.production = production->get_bool();
  found.enforcement = words(text_of(member(&document, "EnforcementStatus")));
  out = std::move(found);
  return true;
}

}  // namespace egret::routing
