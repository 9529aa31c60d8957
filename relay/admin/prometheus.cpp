// The metrics page: our counters as Prometheus families, written by the Prometheus library.
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <limits>
#include <map>
#include <span>

#include "relay/admin/api.hpp"
#include "relay/esp/esp_feedback.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay::api {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

class Page {
 public:
  void counter(const std::string& name, const std::string& help, double value, const Labels& labels = {}) {
    add(name, help, MetricType::Counter, value, labels);
  }
  void gauge(const std::string& name, const std::string& help, double value, const Labels& labels = {}) {
    add(name, help, MetricType::Gauge, value, labels);
  }
  /// `counts` of the ranges up to each of `bounds`, and of what is above the last.
  void histogram(const std::string& name, const std::string& help, std::span<const double> bounds,
                 std::span<const std::uint64_t> counts, double sum) {
    ClientMetric metric;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      total += counts[i];
      const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({total, bound});
    }
    metric.histogram.sample_count = total;
    metric.histogram.sample_sum = sum;
    MetricFamily& family = families_[name];
    family.name = name;
    family.help = help;
    family.type = MetricType::Histogram;
    family.metric.push_back(std::move(metric));
  }
  std::string text() const {
    std::vector<MetricFamily> families;
    for (const auto& [name, family] : families_) families.push_back(family);
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  void add(const std::string& name, const std::string& help, MetricType type, double value, const Labels& labels) {
    MetricFamily& family = families_[name];
    family.name = name;
    family.help = help;
    family.type = type;
    ClientMetric& metric = family.metric.emplace_back();
    for (const auto& [key, text] : labels) {
      ClientMetric::Label label;
      label.name = key;
      label.value = text;
      metric.label.push_back(std::move(label));
    }
    if (type == MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
  }
  std::map<std::string, MetricFamily> families_;
};

void egress(Page& page, const std::string& kind, const std::string& name, const EgressCounters& c) {
  const auto recipients = [&](const char* outcome, const Counter& counter) {
    page.counter("egret_recipients_total", "Recipients by egress and outcome of an attempt.", static_cast<double>(counter.get()),
                 {{"kind", kind}, {"egress", name}, {"outcome", outcome}});
  };
  recipients("delivered", c.delivered);
  recipients("deferred", c.deferred);
  recipients("failed", c.failed);
  page.counter("egret_egress_blamed_total", "Replies that blamed the egress.", static_cast<double>(c.blamed.get()),
               {{"kind", kind}, {"egress", name}});
  page.counter("egret_ambiguous_total", "Attempts that ended without a reply to the final dot.",
               static_cast<double>(c.ambiguous.get()), {{"kind", kind}, {"egress", name}});
}

void alerts(Page& page, const config::Config& config, const Metrics& m) {
  if (config.alerts.empty()) return;
  for (std::size_t i = 0; i < config.alerts.size(); ++i) {
    const auto& target = config.alerts[i];
    // The number keeps two targets at one host apart; a webhook's path may be a secret.
    const Labels labels{{"target", std::to_string(i)},
                        {"to", target.webhook ? target.webhook->url.origin() : target.mail->to.to_string()}};
    const auto count = [&](const char* name, const char* help, const Counter& c) {
      page.counter(name, help, static_cast<double>(c.get()), labels);
    };
    count("egret_alerts_sent_total", "Alerts that the target took, or that were stored as mail to it.", m.alerts[i].sent);
    count("egret_alerts_retried_total", "Further tries after the first of an alert.", m.alerts[i].retried);
    count("egret_alerts_dropped_total", "Alerts given up.", m.alerts[i].dropped);
  }
  page.counter("egret_alerts_folded_total", "Events folded into an alert that was out already.",
               static_cast<double>(m.alerts_folded.get()));
}

void esp_events(Page& page, EspMail& memory) {
  for (const auto& [name, counts] : memory.metrics().counts()) {
    for (std::size_t kind = 0; kind < counts.events.size(); ++kind)
      if (counts.events[kind] > 0)
        page.counter("egret_esp_events_total", "Events of ESPs that were taken.", static_cast<double>(counts.events[kind]),
                     {{"smarthost", name}, {"kind", std::string(to_string(static_cast<routing::EspEventKind>(kind)))}});
    page.counter("egret_esp_events_untied_total", "Events about mail that is not known here.", static_cast<double>(counts.untied),
                 {{"smarthost", name}});
    page.counter("egret_esp_events_repeated_total", "Events that were known already.", static_cast<double>(counts.repeated),
                 {{"smarthost", name}});
    for (const auto& [reason, count] : counts.refused)
      page.counter("egret_esp_requests_refused_total", "Webhook requests that were not believed.", static_cast<double>(count),
                   {{"smarthost", name}, {"reason", reason}});
  }
  const auto totals = memory.metrics().totals();
  const auto total = [&](const char* name, const char* help, std::uint64_t value) {
    page.counter(name, help, static_cast<double>(value));
  };
  total("egret_esp_handovers_dropped_total", "Recipients taken by smarthosts whose events will find no message.",
        totals.handovers_dropped);
  total("egret_esp_reports_total", "DSNs made of events.", totals.reports);
  total("egret_esp_events_forwarded_total", "Events that the operator's webhook took.", totals.forwarded);
  total("egret_esp_events_forward_retried_total", "Requests to the operator's webhook that are tried again.",
        totals.forward_retried);
  total("egret_esp_events_forward_dropped_total", "Events that were not sent on in time, or refused.", totals.forward_dropped);
}

void limits(Page& page, const std::vector<BudgetLine>& lines, const std::string& kind, const std::string& name) {
  for (const BudgetLine& line : lines) {
    if (!line.limit) continue;
    const double scale = line.unit.money() ? static_cast<double>(routing::nanos) : 1;
    const Labels labels{{"of", kind},
                        {"name", name},
                        {"unit", line.unit.money() ? std::string(line.unit.code()) : "recipients"},
                        {"per", routing::to_string(line.per)}};
    page.gauge("egret_budget_limit", "What may be used in a period.", static_cast<double>(*line.limit) / scale, labels);
    page.gauge("egret_budget_used", "What is used of it in the present period.", static_cast<double>(line.used) / scale, labels);
  }
}

void spending(Page& page, const AdminContext& c) {
  const auto& config = *c.config;
  for (std::uint32_t k = 0; k < config.classes.size(); ++k)
    if (!config.classes[k].removed) limits(page, c.budgets.class_lines(k, now()), "class", config.classes[k].name);
  for (std::uint32_t i = 0; i < config.smarthosts.size(); ++i) {
    if (config.smarthosts[i].removed) continue;
    limits(page, c.budgets.smarthost_lines(i, now()), "smarthost", config.smarthosts[i].name);
    for (std::uint32_t k = 0; k < config.classes.size(); ++k) {
      if (config.classes[k].removed) continue;
      const Spent spent = c.budgets.today(i, k, now());
      Labels labels{{"smarthost", config.smarthosts[i].name}, {"class", config.classes[k].name}};
      page.gauge("egret_smarthost_recipients_today", "Recipients charged since midnight UTC.",
                 static_cast<double>(spent.recipients), labels);
      for (const auto& [unit, amount] : spent.money) {
        Labels with = labels;
        with.emplace_back("currency", std::string(unit.code()));
        page.gauge("egret_smarthost_cost_today", "What they cost.",
                   static_cast<double>(amount) / static_cast<double>(routing::nanos), with);
      }
    }
  }
}

void traffic(Page& page, const Metrics& m) {
  const auto counter = [&](const char* name, const char* help, const Counter& c) {
    page.counter(name, help, static_cast<double>(c.get()));
  };
  counter("egret_connections_total", "Client connections.", m.connections);
  counter("egret_connections_refused_total", "Client connections refused over a limit.", m.connections_refused);
  counter("egret_logins_refused_total", "Logins of clients that were refused.", m.logins_refused);
  counter("egret_messages_accepted_total", "Messages answered with 250.", m.messages_accepted);
  counter("egret_recipients_accepted_total", "Recipients of accepted messages.", m.recipients_accepted);
  counter("egret_bytes_accepted_total", "Octets of accepted messages.", m.bytes_accepted);
  counter("egret_messages_unstored_total", "Messages refused because they could not be stored.", m.messages_unstored);
  counter("egret_attempts_total", "Delivery attempts.", m.attempts);
  counter("egret_failovers_total", "Messages moved to another egress within a round.", m.failovers);
  counter("egret_reports_total", "Delivery status notifications made.", m.reports);
  counter("egret_connections_out_total", "Connections opened to receivers.", m.connections_out);
  page.gauge("egret_sessions", "Client sessions open.", static_cast<double>(m.sessions.load()));
  page.gauge("egret_connections_out", "Connections open to receivers.", static_cast<double>(m.out_open.load()));
  page.gauge("egret_connections_out_waiting", "Destinations that wait for one: limits.connections_out is reached.",
             static_cast<double>(m.out_waiting.load()));
}

}  // namespace

boost::asio::awaitable<std::string> metrics(const AdminContext& c) {
  Page page;
  traffic(page, c.metrics);
  alerts(page, *c.config, c.metrics);
  if (EspMail* memory = c.esp_feedback ? c.esp_feedback->memory() : nullptr) esp_events(page, *memory);
  const auto& topology = c.config->topology;
  for (std::uint32_t i = 0; i < topology.sources.size(); ++i) {
    if (topology.sources[i].removed) continue;
    egress(page, "source", topology.sources[i].name, c.metrics.sources[i]);
    const auto view = c.reputation.view(i, "");
    page.gauge("egret_source_standing", "1 for the standing that the source has.", 1,
               {{"source", topology.sources[i].name}, {"standing", std::string(routing::to_string(view.standing))}});
    page.gauge("egret_source_in_service", "Whether the source carries mail.", routing::in_service(view.standing),
               {{"source", topology.sources[i].name}});
    page.gauge("egret_source_score", "Sum of the weights of the lists that list the source.", c.reputation.score(i),
               {{"source", topology.sources[i].name}});
  }
  for (const auto& [rule, count] : c.reputation.would_have())
    page.counter("egret_would_have_total", "Ejections that were observed only, by the rule that would have made them.",
                 static_cast<double>(count), {{"rule", rule}});
  for (std::uint32_t i = 0; i < topology.smarthosts.size(); ++i)
    if (!c.config->smarthosts[i].removed) egress(page, "smarthost", topology.smarthosts[i], c.metrics.smarthosts[i]);
  spending(page, c);
  for (const auto& [name, status] : c.prober->status())
    if (status.state != ListStatus::State::disabled) {
      page.gauge("egret_blocklist_in_service", "Whether the list passes its test points.",
                 status.state == ListStatus::State::in_service, {{"blocklist", name}});
      page.counter("egret_blocklist_queries_total", "Queries sent to the list.", static_cast<double>(status.queries),
                   {{"blocklist", name}});
    }
  const auto counters = c.spool.counters();
  page.gauge("egret_spool_messages", "Messages waiting on disk.", static_cast<double>(counters.waiting));
  page.gauge("egret_spool_segments", "Segment files.", static_cast<double>(counters.segments));
  page.counter("egret_spool_syncs_total", "fdatasync calls.", static_cast<double>(counters.syncs));
  const auto syncs = c.spool.sync_times().counts();
  page.histogram("egret_spool_sync_seconds", "How long fdatasync took; nothing is accepted faster.", spool::sync_bounds,
                 syncs.counts, syncs.seconds);
  page.counter("egret_spool_records_total", "Records written.", static_cast<double>(counters.records));
  page.gauge("egret_spool_trouble", "0 accepting, 1 no space, 2 broken.", static_cast<double>(c.spool.trouble()));
  page.gauge("egret_spool_low", "1: mail of lesser classes waits for disk.", c.spool.low() ? 1 : 0);
  QueueFilter filter;
  filter.limit = 0;
  for (std::size_t i = 0; i < c.dispatchers.size(); ++i) {
    Dispatcher* dispatcher = c.dispatchers[i];
    const std::string worker = std::to_string(i);
    const auto read = [](Dispatcher* d, QueueFilter f) -> boost::asio::awaitable<QueueSummary> { co_return d->queue(f); };
    const QueueSummary part =
        co_await boost::asio::co_spawn(dispatcher->executor(), read(dispatcher, filter), boost::asio::use_awaitable);
    for (const auto& [index, n] : part.by_class)
      page.gauge("egret_queue_messages", "Waiting messages by class and worker.", static_cast<double>(n),
                 {{"class", c.config->classes[index].name}, {"worker", worker}});
    page.gauge("egret_queue_held", "Messages that are held, by worker.", static_cast<double>(part.held),
               {{"worker", worker}});
  }
  co_return page.text();
}

}  // namespace egret::relay::api
