// POST /api/v1/queue/retry|hold|release|cancel: the operator's word on waiting mail, to all workers, and its event.
#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/admin/api.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay::api {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::size_t ids_shown = 100;

struct ActionWords {
  QueueAction action;
  std::string_view name;
  std::string_view done;  ///< the event's kind, too
};

constexpr ActionWords actions[] = {{QueueAction::retry, "retry", "due now"},
                                   {QueueAction::hold, "hold", "held"},
                                   {QueueAction::release, "release", "released"},
                                   {QueueAction::cancel, "cancel", "cancelled"}};

/// What is wrong with the request, or empty.
std::string read_request(const AdminContext& c, const json::object& request, QueueCommand& command) {
  std::string text;
  for (const auto& [key, value] : request) {
    if (key == "selector" && value.is_string())
      text = json::value_to<std::string>(value);
    else if (key == "bounce" && value.is_bool() && command.action == QueueAction::cancel)
      command.bounce = value.as_bool();
    else
      return std::string(key) + ": " +
             (key == "selector" ? "expected a text"
              : key == "bounce" ? "true or false, with cancel only"
                                : "no such key; there are selector and bounce");
  }
  // Without a selector: everything, where no harm comes of it.
  const bool harmless = command.action == QueueAction::retry || command.action == QueueAction::release;
  if (text.empty() && harmless) text = "all";
  auto parsed = parse_selector(text, *c.config);
  if (const auto* wrong = std::get_if<std::string>(&parsed)) return *wrong;
  command.selector = std::get<Selector>(std::move(parsed));
  return {};
}

void merge(std::vector<smtp::MessageId>& into, const std::vector<smtp::MessageId>& more) {
  into.insert(into.end(), more.begin(), more.end());
  std::ranges::sort(into);
  into.erase(std::unique(into.begin(), into.end()), into.end());
}

asio::awaitable<QueueChanges> on_all_workers(const AdminContext& c, QueueCommand command) {
  QueueChanges all;
  // A message that moves from one worker to another meanwhile would escape a hold or a cancel: look again. The others
  // need no second look: what moves is due already and not held.
  const bool thorough = command.action == QueueAction::hold || command.action == QueueAction::cancel;
  for (int look = 0; look < 5; ++look) {
    const std::uint64_t before = c.handovers.arrived.load();
    all.busy.clear();
    all.undecided.clear();
    for (Dispatcher* dispatcher : c.dispatchers) {
      const QueueChanges part =
          co_await asio::co_spawn(dispatcher->executor(), dispatcher->command(command), asio::use_awaitable);
      merge(all.matched, part.matched);
      merge(all.changed, part.changed);
      merge(all.busy, part.busy);
      merge(all.undecided, part.undecided);
    }
    if (!thorough || c.handovers.sent.load() == before) break;
  }
  co_return all;
}

void tell(const AdminContext& c, const QueueCommand& command, const ActionWords& words, const QueueChanges& changes,
          const std::string& who) {
  const std::string text = std::string(words.done) + " by the operator: " + std::to_string(changes.changed.size()) +
                           (changes.changed.size() == 1 ? " message (" : " messages (") + command.selector.text +
                           "), asked from " + who + (command.bounce ? ", senders are told" : "");
  if (command.action == QueueAction::retry) {
    log::info("queue retry", {{"selector", command.selector.text}, {"text", text}});
    return;
  }
  if (changes.changed.empty()) return;
  Event event;
  event.kind = words.done;
  event.rule = "operator";
  event.text = text;
  if (command.selector.sender) event.sender = command.selector.sender->to_string();
  if (changes.changed.size() == 1) event.message = smtp::to_string(changes.changed.front());
  if (command.action == QueueAction::hold) {
    // Held mail has another state and no egress: the same selector would not find it again.
    const bool found_again = !command.selector.state && !command.selector.egress;
    event.action = found_again ? "egret queue release " + command.selector.text : "egret queue --state held";
  }
  c.events.add(std::move(event));
}

}  // namespace

asio::awaitable<json::value> queue_command(const AdminContext& c, std::string action, json::object request, std::string who) {
  const auto* const words = std::ranges::find(actions, action, &ActionWords::name);
  if (words == std::end(actions)) co_return nullptr;
  QueueCommand command;
  command.action = words->action;
  const std::string wrong = read_request(c, request, command);
  if (!wrong.empty()) co_return json::object{{"error", wrong}};
  const QueueChanges changes = co_await on_all_workers(c, command);
  tell(c, command, *words, changes, who);
  json::array ids;
  for (std::size_t i = 0; i < std::min(ids_shown, changes.matched.size()); ++i)
    ids.emplace_back(smtp::to_string(changes.matched[i]));
  co_return json::object{{"matched", changes.matched.size()},
                         {"changed", changes.changed.size()},
                         {"busy", changes.busy.size()},
                         {"undecided", changes.undecided.size()},
                         {"ids", std::move(ids)}};
}

}  // namespace egret::relay::api
