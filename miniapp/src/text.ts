// Every word of the page, in each of its languages.

import type { Ending, Outcome } from './endings';

export interface Said {
  title: string;
  body: string;
}

export interface Text {
  language: 'en' | 'ru';
  busy: string;

  qrTitle: string;
  qrLead: string;
  qrPicture: string;
  qrNext(seconds: number): string;
  qrDrawing: string;
  qrTime: string;
  qrTimeLeft(seconds: number): string;
  scanTitle: string;
  scanSteps: readonly string[];
  openTitle: string;
  openButton: string;
  openNote: string;

  passwordTitle: string;
  passwordLead: string;
  passwordLabel: string;
  passwordShow: string;
  passwordHide: string;
  passwordSend: string;
  passwordSending: string;
  passwordHint(hint: string): string;
  passwordAttempts(left: number): string;
  passwordWrong: string;
  passwordEmpty: string;
  passwordNotSent: string;
  passwordWait(seconds: number | undefined): string;

  codeTitle: string;
  codeBody: string;

  closesIn(clock: string): string;
  closing: string;
  cancel: string;
  cancelling: string;
  reconnecting: string;
  offline: string;
  close: string;
  again: string;
  account(id: string): string;
  endings: Readonly<Record<Outcome, (ending: Ending) => Said>>;
}

/** Russian where the browser says so, else English. */
export function textFor(language: string): Text {
  return /^ru\b/i.test(language) ? RUSSIAN : ENGLISH;
}

type Forms = Readonly<Partial<Record<Intl.LDMLPluralRule, string>>>;

/** `#` in the form is the number. */
function counter(language: string): (number: number, forms: Forms) => string {
  const rules = new Intl.PluralRules(language);
  return (number, forms) => (forms[rules.select(number)] ?? forms.other ?? '').replace('#', String(number));
}

/** A wait in words, rounded up: nobody should come too early. */
function wait(seconds: number, units: Readonly<Record<'second' | 'minute' | 'hour', (n: number) => string>>): string {
  if (seconds <= 90) {
    return units.second(Math.max(1, Math.ceil(seconds)));
  }
  return seconds <= 5400 ? units.minute(Math.ceil(seconds / 60)) : units.hour(Math.ceil(seconds / 3600));
}

const some = counter('en');
const inEnglish = (seconds: number) =>
  wait(seconds, {
    second: (n) => some(n, { one: '# second', other: '# seconds' }),
    minute: (n) => some(n, { one: '# minute', other: '# minutes' }),
    hour: (n) => some(n, { one: '# hour', other: '# hours' }),
  });
const waitFor = (seconds: number | undefined) =>
  seconds === undefined ? 'Wait a while' : `Wait ${inEnglish(seconds)}`;

export const ENGLISH: Text = {
  language: 'en',
  busy: 'One moment…',

  qrTitle: 'Connect your Telegram account',
  qrLead: 'This lets the service use your account. You can end it at any time in Telegram, under Settings → Devices.',
  qrPicture: 'QR code for signing in to Telegram',
  qrNext: (seconds) => `New code in ${seconds} s`,
  qrDrawing: 'Drawing a new code…',
  qrTime: 'Time left for this code',
  qrTimeLeft: (seconds) => some(seconds, { one: 'about # second', other: 'about # seconds' }),
  scanTitle: 'Scan with a phone',
  scanSteps: [
    'Open Telegram on a phone that has the account.',
    'Go to Settings → Devices → Link Desktop Device.',
    'Point the phone at the code and confirm.',
  ],
  openTitle: 'Is the account on this device?',
  openButton: 'Open in Telegram',
  openNote: 'If Telegram then asks you to scan the code, open this page on a second screen and scan it from there.',

  passwordTitle: 'Enter your password',
  passwordLead: 'The code was scanned. This account is also protected by a two-step verification password.',
  passwordLabel: 'Two-step verification password',
  passwordShow: 'Show the password',
  passwordHide: 'Hide the password',
  passwordSend: 'Continue',
  passwordSending: 'Checking…',
  passwordHint: (hint) => `Hint: ${hint}`,
  passwordAttempts: (left) => some(left, { one: '# attempt left', other: '# attempts left' }),
  passwordWrong: 'That password is wrong. Try again.',
  passwordEmpty: 'Enter the password.',
  passwordNotSent: 'The password was not accepted: the service could not be reached. Try again.',
  passwordWait: (seconds) => `Not now. ${waitFor(seconds)} and try again.`,

  codeTitle: 'A code is expected elsewhere',
  codeBody: 'This login waits for a code from Telegram. Enter it where the login was begun.',

  closesIn: (clock) => `This login closes in ${clock}`,
  closing: 'This login is closing…',
  cancel: 'Cancel',
  cancelling: 'Cancelling…',
  reconnecting: 'No connection to the service. Trying again…',
  offline: 'You are offline. The page goes on by itself when you are back.',
  close: 'Close',
  again: 'Try again',
  account: (id) => `Account ${id}`,
  endings: {
    authorized: () => ({ title: 'You are signed in', body: 'Your Telegram account is connected. You can close this page.' }),
    expired: () => ({
      title: 'The time is up',
      body: 'The login was not completed in time. Close this page and open it again from the bot.',
    }),
    cancelled: () => ({
      title: 'The login was cancelled',
      body: 'Nothing was connected. To start over, close this page and open it again from the bot.',
    }),
    superseded: () => ({
      title: 'A newer login took over',
      body: 'This login was begun again elsewhere. Go on there, or close this page and open it again from the bot.',
    }),
    mismatch: () => ({
      title: 'That is a different account',
      body: 'The code was confirmed by another Telegram account than the one expected, and nothing was connected. Close this page, open it again from the bot and use the same account that you opened it with.',
    }),
    passwordSpent: () => ({
      title: 'Too many wrong passwords',
      body: 'No attempts are left, and nothing was connected. Look the password up, then close this page and open it again from the bot.',
    }),
    floodWait: ({ wait }) => ({
      title: 'Too many logins',
      body: `Telegram asks for a pause. ${waitFor(wait)}, then close this page and open it again from the bot.`,
    }),
    telegramAway: () => ({
      title: 'Telegram does not answer',
      body: 'The service cannot reach Telegram right now. Try later: close this page and open it again from the bot.',
    }),
    failed: () => ({
      title: 'The login did not work',
      body: 'Nothing was connected. Close this page and open it again from the bot. If it happens again, tell whoever runs the bot.',
    }),
    lost: () => ({
      title: 'The connection was lost',
      body: 'The service could not be reached for a long time. Close this page and open it again from the bot.',
    }),
    outside: () => ({
      title: 'Open this page in Telegram',
      body: 'It works only when a bot opens it. Go to the bot in Telegram and press its button.',
    }),
    appMissing: () => ({
      title: 'This link is incomplete',
      body: 'It does not say what to connect the account to. Use the button of the bot; if you did, tell whoever runs the bot.',
    }),
    launchSpent: () => ({
      title: 'This page was opened too long ago',
      body: 'Telegram’s confirmation is used up or too old. Close this page and open it again from the bot.',
    }),
    notSetUp: () => ({
      title: 'This is not set up for you',
      body: 'The service does not know this bot, or does not offer this connection to you. Tell whoever runs the bot.',
    }),
    othersAccount: () => ({
      title: 'Another account is connected',
      body: 'This belongs to a different Telegram account than yours. Open the bot with that account, or tell whoever runs the bot.',
    }),
    crowded: ({ wait }) => ({ title: 'Too many requests', body: `${waitFor(wait)}, then try again.` }),
    serviceAway: ({ wait }) => ({
      title: 'The service is not available',
      body: `Nothing was begun. ${waitFor(wait)}, then try again.`,
    }),
    refused: () => ({
      title: 'The login could not begin',
      body: 'The service refused it. Close this page and open it again from the bot. If it happens again, tell whoever runs the bot.',
    }),
    unreachable: () => ({
      title: 'No connection',
      body: 'The service could not be reached. Check your connection, then try again.',
    }),
  },
};

const many = counter('ru');
const inRussian = (seconds: number) =>
  wait(seconds, {
    second: (n) => many(n, { one: '# секунду', few: '# секунды', other: '# секунд' }),
    minute: (n) => many(n, { one: '# минуту', few: '# минуты', other: '# минут' }),
    hour: (n) => many(n, { one: '# час', few: '# часа', other: '# часов' }),
  });
const waitInRussian = (seconds: number | undefined) =>
  seconds === undefined ? 'Подождите немного' : `Подождите ${inRussian(seconds)}`;

export const RUSSIAN: Text = {
  language: 'ru',
  busy: 'Одну минуту…',

  qrTitle: 'Подключите аккаунт Telegram',
  qrLead: 'Сервис сможет пользоваться вашим аккаунтом. Отключить его можно в любой момент: Telegram → Настройки → Устройства.',
  qrPicture: 'QR-код для входа в Telegram',
  qrNext: (seconds) => `Новый код через ${seconds} с`,
  qrDrawing: 'Рисуем новый код…',
  qrTime: 'Сколько ещё действует этот код',
  qrTimeLeft: (seconds) => many(seconds, { one: 'около # секунды', other: 'около # секунд' }),
  scanTitle: 'Отсканируйте телефоном',
  scanSteps: [
    'Откройте Telegram на телефоне, где есть этот аккаунт.',
    'Перейдите в Настройки → Устройства → Подключить устройство.',
    'Наведите телефон на код и подтвердите вход.',
  ],
  openTitle: 'Аккаунт на этом устройстве?',
  openButton: 'Открыть в Telegram',
  openNote: 'Если Telegram попросит отсканировать код, откройте эту страницу на втором экране и отсканируйте код оттуда.',

  passwordTitle: 'Введите пароль',
  passwordLead: 'Код отсканирован. Этот аккаунт защищён ещё и паролем двухэтапной аутентификации.',
  passwordLabel: 'Пароль двухэтапной аутентификации',
  passwordShow: 'Показать пароль',
  passwordHide: 'Скрыть пароль',
  passwordSend: 'Продолжить',
  passwordSending: 'Проверяем…',
  passwordHint: (hint) => `Подсказка: ${hint}`,
  passwordAttempts: (left) =>
    many(left, { one: 'Осталась # попытка', few: 'Осталось # попытки', other: 'Осталось # попыток' }),
  passwordWrong: 'Неверный пароль. Попробуйте ещё раз.',
  passwordEmpty: 'Введите пароль.',
  passwordNotSent: 'Пароль не принят: сервис недоступен. Попробуйте ещё раз.',
  passwordWait: (seconds) => `Не сейчас. ${waitInRussian(seconds)} и попробуйте ещё раз.`,

  codeTitle: 'Код ждут в другом месте',
  codeBody: 'Этот вход ждёт код от Telegram. Введите его там, где вход был начат.',

  closesIn: (clock) => `Вход закроется через ${clock}`,
  closing: 'Вход закрывается…',
  cancel: 'Отменить',
  cancelling: 'Отменяем…',
  reconnecting: 'Нет связи с сервисом. Пробуем ещё раз…',
  offline: 'Нет сети. Страница продолжит сама, когда сеть появится.',
  close: 'Закрыть',
  again: 'Попробовать ещё раз',
  account: (id) => `Аккаунт ${id}`,
  endings: {
    authorized: () => ({ title: 'Вы вошли', body: 'Аккаунт Telegram подключён. Страницу можно закрыть.' }),
    expired: () => ({
      title: 'Время вышло',
      body: 'Вход не завершили вовремя. Закройте страницу и откройте её снова из бота.',
    }),
    cancelled: () => ({
      title: 'Вход отменён',
      body: 'Ничего не подключено. Чтобы начать заново, закройте страницу и откройте её снова из бота.',
    }),
    superseded: () => ({
      title: 'Начат новый вход',
      body: 'Этот вход начали заново в другом месте. Продолжите там или закройте страницу и откройте её снова из бота.',
    }),
    mismatch: () => ({
      title: 'Это другой аккаунт',
      body: 'Код подтвердил не тот аккаунт Telegram, который ожидался, и ничего не подключено. Закройте страницу, откройте её снова из бота и войдите тем же аккаунтом, которым её открыли.',
    }),
    passwordSpent: () => ({
      title: 'Слишком много неверных паролей',
      body: 'Попыток не осталось, ничего не подключено. Уточните пароль, затем закройте страницу и откройте её снова из бота.',
    }),
    floodWait: ({ wait }) => ({
      title: 'Слишком много входов',
      body: `Telegram просит сделать паузу. ${waitInRussian(wait)}, затем закройте страницу и откройте её снова из бота.`,
    }),
    telegramAway: () => ({
      title: 'Telegram не отвечает',
      body: 'Сервис сейчас не может связаться с Telegram. Попробуйте позже: закройте страницу и откройте её снова из бота.',
    }),
    failed: () => ({
      title: 'Войти не удалось',
      body: 'Ничего не подключено. Закройте страницу и откройте её снова из бота. Если это повторится, сообщите владельцу бота.',
    }),
    lost: () => ({
      title: 'Связь потеряна',
      body: 'Сервис долго не отвечал. Закройте страницу и откройте её снова из бота.',
    }),
    outside: () => ({
      title: 'Откройте эту страницу в Telegram',
      body: 'Она работает, только если её открывает бот. Перейдите к боту в Telegram и нажмите его кнопку.',
    }),
    appMissing: () => ({
      title: 'Ссылка неполная',
      body: 'В ней не сказано, к чему подключить аккаунт. Нажмите кнопку бота; если вы так и сделали, сообщите владельцу бота.',
    }),
    launchSpent: () => ({
      title: 'Страница открыта слишком давно',
      body: 'Подтверждение от Telegram уже использовано или устарело. Закройте страницу и откройте её снова из бота.',
    }),
    notSetUp: () => ({
      title: 'Для вас это не настроено',
      body: 'Сервис не знает этого бота или не предлагает вам это подключение. Сообщите владельцу бота.',
    }),
    othersAccount: () => ({
      title: 'Подключён другой аккаунт',
      body: 'Это подключение принадлежит другому аккаунту Telegram. Откройте бота тем аккаунтом или сообщите владельцу бота.',
    }),
    crowded: ({ wait }) => ({ title: 'Слишком много запросов', body: `${waitInRussian(wait)} и попробуйте ещё раз.` }),
    serviceAway: ({ wait }) => ({
      title: 'Сервис недоступен',
      body: `Ничего не начато. ${waitInRussian(wait)} и попробуйте ещё раз.`,
    }),
    refused: () => ({
      title: 'Не удалось начать вход',
      body: 'Сервис отказал. Закройте страницу и откройте её снова из бота. Если это повторится, сообщите владельцу бота.',
    }),
    unreachable: () => ({
      title: 'Нет связи',
      body: 'Сервис не отвечает. Проверьте соединение и попробуйте ещё раз.',
    }),
  },
};
