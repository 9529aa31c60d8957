// What ESPs say over HTTP: their webhooks, the outer object of SNS, and the answers of their APIs. The first octet says which
// it is and whose, a line of header fields may follow for answers.
#include "relay/esp/event_check.hpp"
#include "routing/esp_api.hpp"
#include "routing/esp_event.hpp"
#include "routing/esp_id.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace routing;

const Time now{std::chrono::seconds(1'795'000'000)};

bool clean_text(std::string_view text, std::size_t limit) {
  return text.size() <= limit && one_line(text) && smtp::valid_utf8(text);
}

void check_events(EspFormat format, std::string_view body) {
  const EspBatch batch = parse_esp_events(format, body, now);
  require(!batch.malformed || batch.events.empty(), "what is malformed says nothing");
  require(batch.events.size() <= max_esp_events, "a request has a bounded number of events");
  for (const EspEvent& event : batch.events) {
    require(event.recipient.size() <= 320, "a recipient is bounded");
    require(clean_text(event.diagnostic, 1000), "a diagnosis is clean text");
    require(event.status.size() <= 1000 && event.our_id.size() <= 1000, "status and id are bounded");
    require(!event.key.empty() && event.key.size() <= 1000, "every event has a bounded key");
    for (const auto& id : event.esp_ids) require(!id.empty() && id.size() <= 200, "an id is bounded");
  }
  const EspBatch again = parse_esp_events(format, body, now);
  require(again.events.size() == batch.events.size(), "the same request says the same");
  for (std::size_t i = 0; i < batch.events.size(); ++i)
    require(again.events[i].key == batch.events[i].key, "the same event has the same key");
}

void check_answer(std::string_view preset, unsigned status, Input input) {
  const std::string_view error_type = input.until('\n'), retry_after = input.until('\n'), body = input.rest();
  const ApiVerdict verdict = read_api_answer(preset, {status, error_type, retry_after, body}, 2);
  const bool success = status >= 200 && status < 300;
  require(verdict.outcome.reply.code >= 250 && verdict.outcome.reply.code < 600, "an answer is a reply");
  require(clean_text(verdict.outcome.reply.to_string(), 700), "a reply is a line of clean text");
  require(success || !verdict.outcome.delivered(), "only a success delivers");
  require(!verdict.ambiguous || !verdict.outcome.delivered(), "what is unknown is not delivered");
  require(verdict.retry_after >= Duration{0} && verdict.retry_after <= std::chrono::hours(24), "a pause is bounded");
  require(clean_text(esp_message_id(preset, verdict.outcome.reply), 200), "an id is clean text");
  SesAccount account;
  if (read_ses_account(body, account)) require(clean_text(account.enforcement, 500), "a state is clean text");
}

void check_sns(std::string_view body) {
  const auto message = relay::parse_sns(body);
  if (!message) return;
  require(!message->topic.empty() && !message->signature.empty(), "a message of SNS is signed");
  require(smtp::sns_signed_text(*message).has_value(), "a message of SNS has a known type");
  const std::string region = smtp::sns_topic_region(message->topic);
  const auto target = smtp::sns_certificate_target(message->certificate_url, region);
  if (!target) return;
  require(target->starts_with("/SimpleNotificationService-") && target->find_first_of("?&%#\\@ ") == std::string::npos &&
              target->rfind('/') == 0,
          "a certificate is a file of SNS");
  require(smtp::sns_url_target(message->certificate_url, region) == target, "a certificate is at SNS");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  fuzz::Input input(data, size);
  constexpr const char* presets[] = {"ses", "mailgun", "mailgun-eu", "sparkpost", "sparkpost-eu"};
  constexpr unsigned statuses[] = {200, 202, 302, 400, 401, 403, 413, 422, 429, 500, 502, 503};
  const unsigned kind = input.octet();
  if (kind < 128) {
    const std::string body(input.rest());
    if (kind % 6 == 5)
      fuzz::check_sns(body);
    else
      fuzz::check_events(static_cast<routing::EspFormat>(kind % 6), body);
  } else {
    fuzz::check_answer(presets[kind % 5], statuses[input.octet() % std::size(statuses)], input);
  }
  return 0;
}
